//! What rustls says, as an exception: `TlsError(words, alert)`.

use pyo3::exceptions::PyException;
use pyo3::{PyErr, create_exception};
use rustls::Error;

create_exception!(crossdock_tls, TlsError, PyException);

/// `alert` is the number of the alert that the peer sent, or None when the fault was found on this side.
pub fn raised(error: &Error) -> PyErr {
    let alert = match error {
        Error::AlertReceived(description) => Some(u8::from(*description)),
        _ => None,
    };
    TlsError::new_err((error.to_string(), alert))
}

/// A fault that rustls has no word for.
pub fn plain(words: &str) -> PyErr {
    TlsError::new_err((words.to_owned(), None::<u8>))
}
