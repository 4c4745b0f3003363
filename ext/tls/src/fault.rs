//! Errors of rustls as an exception: `TlsError(message, alert)`.

use pyo3::exceptions::PyException;
use pyo3::{PyErr, create_exception};
use rustls::Error;

create_exception!(crossdock_tls, TlsError, PyException);

/// `alert` is the number of the alert that the peer sent, or None when this side found the fault.
pub fn raised(error: &Error) -> PyErr {
    let alert = match error {
        Error::AlertReceived(description) => Some(u8::from(*description)),
        _ => None,
    };
    TlsError::new_err((error.to_string(), alert))
}

/// A fault for which rustls has no error.
pub fn plain(message: &str) -> PyErr {
    TlsError::new_err((message.to_owned(), None::<u8>))
}
