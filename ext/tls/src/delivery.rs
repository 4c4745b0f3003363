//! Plaintext goes from where it was decrypted straight into the memory of the caller.
//!
//! rustls hands over each record in a vector of its own: an allocation, a copy into it, and another one out of it. So
//! its cipher suites are wrapped. The provider opens every record as ever, in place; application data is then moved
//! to the caller's memory as far as there is room, all but its last byte, which goes the usual way: rustls refuses
//! peers that send one empty record after another, and shall go on to count. All else, keys, nonces, alerts, limits,
//! the order of messages, is done by rustls and its provider.

use std::cell::RefCell;
use std::sync::LazyLock;

use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, KeyBlockShape, MessageDecrypter,
    MessageEncrypter, Tls12AeadAlgorithm, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::crypto::{CipherSuiteCommon, aws_lc_rs};
use rustls::{
    ConnectionTrafficSecrets, ContentType, Error, SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite,
};

/// The caller's memory.
#[derive(Default)]
struct Room {
    left: &'static mut [u8],
    /// The end of a record is with rustls; what follows it must wait.
    owed: bool,
}

impl Room {
    /// Move in the beginning of `data`. Returns how much of it.
    fn fill(&mut self, data: &[u8]) -> usize {
        let fits = data.len().min(self.left.len());
        let (here, left) = std::mem::take(&mut self.left).split_at_mut(fits);
        here.copy_from_slice(&data[..fits]);
        self.left = left;
        fits
    }
}

thread_local! {
    /// Not empty while this thread is in `into`.
    static ROOM: RefCell<Room> = const { RefCell::new(Room { left: &mut [], owed: false }) };
}

/// Takes the caller's memory away again, whatever happens.
struct Taken;

impl Drop for Taken {
    fn drop(&mut self) {
        ROOM.take();
    }
}

/// Run `decrypt` with application data going to `room`. Returns what it returns, and the bytes delivered.
pub fn into<R>(room: &'static mut [u8], decrypt: impl FnOnce() -> R) -> (R, usize) {
    let size = room.len();
    ROOM.replace(Room { left: room, owed: false });
    let _taken = Taken;
    let outcome = decrypt();
    (outcome, size - ROOM.with_borrow(|room| room.left.len()))
}

/// Deliver what came the usual way. Returns how much of it; there is no room for the rest.
pub fn deliver(data: &[u8]) -> usize {
    ROOM.with_borrow_mut(|room| {
        room.owed = false;
        room.fill(data)
    })
}

/// No room is left, or there was none.
pub fn full() -> bool {
    ROOM.with_borrow(|room| room.left.is_empty())
}

struct Delivering(Box<dyn MessageDecrypter>);

impl MessageDecrypter for Delivering {
    fn decrypt<'a>(
        &mut self,
        message: InboundOpaqueMessage<'a>,
        number: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let mut plain = self.0.decrypt(message, number)?;
        if let (ContentType::ApplicationData, [beginning @ .., _]) = (plain.typ, plain.payload) {
            ROOM.with_borrow_mut(|room| {
                if !room.owed {
                    plain.payload = &plain.payload[room.fill(beginning)..];
                    room.owed = true;
                }
            });
        }
        Ok(plain)
    }
}

struct Tls13(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for Tls13 {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        self.0.encrypter(key, iv)
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Delivering(self.0.decrypter(key, iv)))
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }
}

struct Tls12(&'static dyn Tls12AeadAlgorithm);

impl Tls12AeadAlgorithm for Tls12 {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        self.0.encrypter(key, iv, extra)
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        Box::new(Delivering(self.0.decrypter(key, iv)))
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

/// `suite` with its plaintext delivered by `into`. It lives as long as the process: call it once for each suite.
fn delivering(suite: &SupportedCipherSuite) -> SupportedCipherSuite {
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
                aead_alg: Box::leak(Box::new(Tls13(it.aead_alg))),
                quic: None,
            })))
        }
    }
}

/// The cipher suites of the provider, in its order of preference.
pub fn suites() -> &'static [SupportedCipherSuite] {
    static SUITES: LazyLock<Vec<SupportedCipherSuite>> =
        LazyLock::new(|| aws_lc_rs::ALL_CIPHER_SUITES.iter().map(delivering).collect());
    &SUITES
}
