//! The chain is judged by the caller; that the server holds the key of its certificate is judged here.

use std::fmt;
use std::sync::{Arc, Mutex};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// Results of one handshake for the session that drove it.
#[derive(Default)]
pub struct Traces {
    /// The exception of the caller's judge.
    pub refusal: Option<PyErr>,
    /// The server asked for a client certificate.
    pub asked: bool,
}

pub type Shared = Arc<Mutex<Traces>>;

pub struct Judge {
    pub provider: Arc<CryptoProvider>,
    /// Called with the chain, DER, leaf first; raises to refuse.
    pub verify: Py<PyAny>,
    pub traces: Shared,
}

impl fmt::Debug for Judge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Judge")
    }
}

impl Judge {
    fn ask(&self, chain: &[&CertificateDer<'_>]) -> PyResult<()> {
        Python::attach(|py| {
            let chain = PyList::new(py, chain.iter().map(|der| PyBytes::new(py, der)))?;
            self.verify.call1(py, (chain,)).map(|_| ())
        })
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).collect();
        match self.ask(&chain) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(refusal) => {
                self.traces.lock().unwrap().refusal = Some(refusal);
                Err(CertificateError::BadEncoding.into()) // the peer gets the alert bad_certificate
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Shows the client certificate, if there is one, whatever the server hints at, as OpenSSL does.
pub struct Identity {
    pub key: Option<Arc<CertifiedKey>>,
    pub traces: Shared,
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Identity")
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.traces.lock().unwrap().asked = true;
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        true // else `resolve` is not asked
    }
}
