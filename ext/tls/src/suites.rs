//! The cipher suites of the provider, with records that are opened into memory of the caller and sealed into it.

use std::sync::LazyLock;

use aws_lc_rs::aead;
use rustls::crypto::cipher::{
    AeadKey, Iv, KeyBlockShape, MessageDecrypter, MessageEncrypter, Tls12AeadAlgorithm, Tls13AeadAlgorithm,
    UnsupportedOperationError,
};
use rustls::crypto::{CipherSuiteCommon, aws_lc_rs::ALL_CIPHER_SUITES};
use rustls::{
    CipherSuite, ConnectionTrafficSecrets, SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite,
};

use crate::delivery::Delivering;
use crate::sealing::Sealing;

/// The algorithm of a suite of TLS 1.3 that has AES-GCM.
fn gcm_of_tls13(suite: CipherSuite) -> Option<&'static aead::Algorithm> {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(&aead::AES_128_GCM),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(&aead::AES_256_GCM),
        _ => None,
    }
}

struct Tls13 {
    provider: &'static dyn Tls13AeadAlgorithm,
    suite: CipherSuite,
}

impl Tls13AeadAlgorithm for Tls13 {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(match gcm_of_tls13(self.suite).and_then(|gcm| Sealing::direct(gcm, &key, &iv)) {
            Some(direct) => direct,
            None => Sealing::Provider(self.provider.encrypter(key, iv)),
        })
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(match gcm_of_tls13(self.suite).and_then(|gcm| Delivering::direct(gcm, &key, &iv)) {
            Some(direct) => direct,
            None => Delivering::Provider(self.provider.decrypter(key, iv)),
        })
    }

    fn key_len(&self) -> usize {
        self.provider.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.provider.extract_keys(key, iv)
    }
}

struct Tls12(&'static dyn Tls12AeadAlgorithm);

impl Tls12AeadAlgorithm for Tls12 {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        Box::new(Sealing::Provider(self.0.encrypter(key, iv, extra)))
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        Box::new(Delivering::Provider(self.0.decrypter(key, iv)))
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        self.0.key_block_shape()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: &[u8],
        explicit: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv, explicit)
    }
}

/// `suite` with its records wrapped. It lives as long as the process: call it once for each suite.
fn wrapped(suite: &SupportedCipherSuite) -> SupportedCipherSuite {
    let common = |it: &CipherSuiteCommon| CipherSuiteCommon {
        suite: it.suite,
        hash_provider: it.hash_provider,
        confidentiality_limit: it.confidentiality_limit,
    };
    match suite {
        SupportedCipherSuite::Tls12(it) => {
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common: common(&it.common),
                prf_provider: it.prf_provider,
                kx: it.kx,
                sign: it.sign,
                aead_alg: Box::leak(Box::new(Tls12(it.aead_alg))),
            })))
        }
        SupportedCipherSuite::Tls13(it) => {
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: common(&it.common),
                hkdf_provider: it.hkdf_provider,
                aead_alg: Box::leak(Box::new(Tls13 { provider: it.aead_alg, suite: it.common.suite })),
                quic: None,
            })))
        }
    }
}

/// The cipher suites of the provider, in its order of preference.
pub fn all() -> &'static [SupportedCipherSuite] {
    static SUITES: LazyLock<Vec<SupportedCipherSuite>> =
        LazyLock::new(|| ALL_CIPHER_SUITES.iter().map(wrapped).collect());
    &SUITES
}
