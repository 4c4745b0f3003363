//! The settings that sessions share.

use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};

use crate::fault;
use crate::session::{Memory, Session};
use crate::suites;
use crate::verifier::{Identity, Judge, Shared, Traces};

/// Cipher suites, versions and the client certificate. Immutable; may be used by any thread.
#[pyclass(frozen, module = "crossdock_tls")]
pub struct Client {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    key: Option<Arc<CertifiedKey>>,
}

#[pymethods]
impl Client {
    /// Raises ValueError for a certificate or key that cannot be used, and when no suite is left.
    #[new]
    #[pyo3(signature = (*, suites, tls13, certificate = None, key = None))]
    fn new(suites: Vec<u16>, tls13: bool, certificate: Option<&[u8]>, key: Option<&[u8]>) -> PyResult<Self> {
        let mut crypto = aws_lc_rs::default_provider();
        // No groups of 1 KiB and more: every server and middlebox knows a ClientHello of one packet.
        crypto.kx_groups = vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
        crypto.cipher_suites = suites
            .iter()
            .filter_map(|id| suites::all().iter().find(|suite| u16::from(suite.suite()) == *id))
            .copied()
            .collect();
        let mut versions = vec![&TLS12];
        if tls13 {
            versions.push(&TLS13);
        }
        versions.retain(|version| {
            let mut suites = crypto.cipher_suites.iter();
            suites.any(|suite| suite.version() == *version)
        });
        if versions.is_empty() {
            return Err(PyValueError::new_err("none of the cipher suites is known"));
        }
        let key = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(Arc::new(pair(&crypto, certificate, key)?)),
            (None, None) => None,
            _ => return Err(PyValueError::new_err("a certificate and its key belong together")),
        };
        Ok(Self { provider: Arc::new(crypto), versions, key })
    }

    /// A new session with the server `host`, a DNS name in ASCII or an IP address.
    ///
    /// `memory` takes the ciphertext of one session at a time. `verify` is called with the server's chain.
    /// Raises ValueError for a host that is neither.
    fn session(&self, host: &str, memory: Py<Memory>, verify: Py<PyAny>) -> PyResult<Session> {
        let name = ServerName::try_from(host)
            .map_err(|error| PyValueError::new_err(format!("{host}: {error}")))?
            .to_owned();
        let traces: Shared = Arc::new(Mutex::new(Traces::default()));
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.versions)
            .map_err(|error| fault::raised(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Judge {
                provider: self.provider.clone(),
                verify,
                traces: traces.clone(),
            }))
            .with_client_cert_resolver(Arc::new(Identity { key: self.key.clone(), traces: traces.clone() }));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled(); // every session's certificate is judged
        let connection =
            UnbufferedClientConnection::new(Arc::new(config), name).map_err(|error| fault::raised(&error))?;
        Ok(Session::new(connection, memory, traces))
    }
}

fn pair(crypto: &CryptoProvider, certificate: &[u8], key: &[u8]) -> PyResult<CertifiedKey> {
    let refused = |what: &str, error: &dyn std::fmt::Display| {
        PyValueError::new_err(format!("the {what} cannot be used: {error}"))
    };
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| refused("certificate", &error))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| refused("key", &error))?;
    CertifiedKey::from_der(chain, key, crypto).map_err(|error| refused("key", &error))
}
