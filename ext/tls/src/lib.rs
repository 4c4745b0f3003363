//! TLS 1.2 and 1.3 for a client that does its own I/O: ciphertext in, plaintext into the caller's memory, and back.
//!
//! No sockets, no threads, no runtime, no clock, no files. Certificates are judged by a callable of the caller.

mod client;
mod delivery;
mod fault;
mod lent;
mod sealing;
mod session;
mod suites;
mod verifier;

use pyo3::prelude::*;

#[pymodule]
fn crossdock_tls(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<client::Client>()?;
    module.add_class::<session::Memory>()?;
    module.add_class::<session::Session>()?;
    module.add("TlsError", module.py().get_type::<fault::TlsError>())?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("__sources__", option_env!("CROSSDOCK_TLS_SOURCES"))
}
