//! One TLS client session; ciphertext passes through memory that sessions share.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PySlice};
use rustls::Error;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};

use crate::delivery;
use crate::fault;
use crate::sealing;
use crate::verifier::Shared;

/// The largest record on the wire: header, 2^14 bytes, expansion (RFC 5246 6.2.3).
const LARGEST_RECORD: usize = 5 + (1 << 14) + 2048;

type Ready<'c> = WriteTraffic<'c, ClientConnectionData>;

/// What works without Python.
struct Engine {
    connection: UnbufferedClientConnection,
    /// Decrypted and not delivered, `rest[rest_at..]`: what of one record had no room, as a rule.
    rest: Vec<u8>,
    rest_at: usize,
    /// What rustls itself has to say: handshake, alerts, key updates.
    said: Vec<u8>,
    closed: bool,
    /// What broke the session: rustls must not be asked again.
    fault: Option<Error>,
}

#[derive(PartialEq)]
enum Stop {
    /// When `delivery` has no more room.
    Full,
    /// Not for plaintext: it is kept.
    Never,
}

impl Engine {
    /// Fill `out`. Returns the bytes taken of `ciphertext`, and those put into `out`.
    fn read(&mut self, ciphertext: &mut [u8], out: &'static mut [u8]) -> Result<(usize, usize), Error> {
        let rest = self.deliver_rest(out);
        let room = &mut out[rest..];
        if room.is_empty() {
            return Ok((0, rest));
        }
        let (outcome, delivered) = delivery::into(room, || self.advance(ciphertext, Stop::Full, |_| ()));
        Ok((outcome?.0, rest + delivered))
    }

    /// Go on until the session is ready to encrypt and all ciphertext is taken, which calls `ready`, or more
    /// ciphertext is needed in the middle of the handshake, or as `stop` says.
    /// Returns the bytes taken of `ciphertext`, and what `ready` said.
    fn advance<R>(
        &mut self,
        ciphertext: &mut [u8],
        stop: Stop,
        mut ready: impl FnMut(Ready<'_>) -> R,
    ) -> Result<(usize, Option<R>), Error> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let mut taken = 0;
        loop {
            let incoming = &mut ciphertext[taken..];
            let UnbufferedStatus { mut discard, state, .. } = self.connection.process_tls_records(incoming);
            let mut done = None;
            let state = match state {
                Ok(state) => state,
                Err(fault) => {
                    self.last_words(&mut ciphertext[taken + discard..]);
                    self.fault = Some(fault.clone());
                    return Err(fault);
                }
            };
            match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        let delivered = delivery::deliver(record.payload);
                        self.rest.extend_from_slice(&record.payload[delivered..]);
                    }
                    if stop == Stop::Full && delivery::full() {
                        done = Some(None);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(&mut self.said, |space| data.encode(space));
                }
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                ConnectionState::PeerClosed => self.closed = true,
                ConnectionState::WriteTraffic(traffic) => done = Some(Some(ready(traffic))),
                _ => done = Some(None), // BlockedHandshake; Closed
            }
            taken += discard;
            if let Some(done) = done {
                return Ok((taken, done));
            }
        }
    }

    fn deliver_rest(&mut self, out: &mut [u8]) -> usize {
        let rest = &self.rest[self.rest_at..];
        let fits = rest.len().min(out.len());
        out[..fits].copy_from_slice(&rest[..fits]);
        self.rest_at += fits;
        if self.rest_at == self.rest.len() {
            self.rest.clear();
            self.rest_at = 0;
        }
        fits
    }

    /// After a fault: the alert that tells the peer. rustls insists on seeing the ciphertext that it has not
    /// discarded, and takes nothing more of it.
    fn last_words(&mut self, ciphertext: &mut [u8]) {
        while let UnbufferedStatus { state: Ok(ConnectionState::EncodeTlsData(mut data)), .. } =
            self.connection.process_tls_records(ciphertext)
        {
            append(&mut self.said, |space| data.encode(space));
        }
    }
}

/// Have `encode` append to `said` as much as it needs.
fn append(said: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let at = said.len();
    loop {
        match encode(&mut said[at..]) {
            Ok(written) => return said.truncate(at + written),
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                said.resize(at + required_size, 0);
            }
            Err(EncodeError::AlreadyEncoded) => return,
        }
    }
}

/// Ciphertext of this size and more is sent from memory that is used again.
const WORTH_KEEPING: usize = 64 << 10;
const SPARE_SIZE: usize = 320 << 10;
const SPARES: usize = 4;

/// Memory that takes the ciphertext of many sessions in turn, so that it stays in the processor's cache.
#[pyclass(frozen, module = "crossdock_tls")]
pub struct Memory {
    buffer: PyBuffer<u8>,
    view: Py<PyAny>,
    /// The session whose ciphertext is in it, 0: none.
    holder: AtomicUsize,
    /// For ciphertext to be sent; in use as long as anybody else refers to it.
    spares: Mutex<Vec<Py<PyByteArray>>>,
}

impl Memory {
    /// `SPARE_SIZE` bytes that nobody else uses.
    fn spare<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        let mut spares = self.spares.lock().unwrap();
        if let Some(idle) = spares.iter().find(|spare| refers_nobody_else(spare)) {
            return Ok(idle.bind(py).clone());
        }
        let new = PyByteArray::new_with(py, SPARE_SIZE, |_| Ok(()))?;
        if spares.len() < SPARES {
            spares.push(new.clone().unbind());
        }
        Ok(new)
    }
}

#[pymethods]
impl Memory {
    #[new]
    fn new(size: usize, py: Python<'_>) -> PyResult<Self> {
        if size < 2 * LARGEST_RECORD {
            return Err(PyValueError::new_err(format!("{size} bytes do not hold two records")));
        }
        let bytes = py.get_type::<PyByteArray>().call1((size,))?;
        let buffer = PyBuffer::get(&bytes)?;
        let view = PyMemoryView::from(&bytes)?.into_any().unbind();
        Ok(Self { buffer, view, holder: AtomicUsize::new(0), spares: Mutex::default() })
    }
}

static SESSIONS: AtomicUsize = AtomicUsize::new(1);

/// A TLS session. One thread at a time; a second one gets RuntimeError.
#[pyclass(module = "crossdock_tls")]
pub struct Session {
    engine: Engine,
    id: usize,
    memory: Py<Memory>,
    /// Ciphertext in the memory that was received and not looked at: its first `live` bytes.
    live: usize,
    /// Ciphertext that was looked at and not taken: part of a record, or more when there was no room.
    held: Vec<u8>,
    /// Ciphertext in the order of sending.
    outgoing: Vec<Py<PyAny>>,
    traces: Shared,
}

impl Session {
    pub fn new(connection: UnbufferedClientConnection, memory: Py<Memory>, traces: Shared) -> Self {
        let engine =
            Engine { connection, rest: Vec::new(), rest_at: 0, said: Vec::new(), closed: false, fault: None };
        let id = SESSIONS.fetch_add(1, Relaxed);
        Self { engine, id, memory, live: 0, held: Vec::new(), outgoing: Vec::new(), traces }
    }

    /// Have the engine go on with the ciphertext there is; none is left in the memory afterwards.
    /// `run` returns the bytes it took, and more.
    fn advance<T>(
        &mut self,
        run: impl FnOnce(&mut Engine, &mut [u8]) -> Result<(usize, T), Error>,
    ) -> Result<T, Error> {
        let memory = self.memory.get();
        if self.live == 0 {
            let (taken, outcome) = run(&mut self.engine, &mut self.held)?;
            self.held.drain(..taken);
            return Ok(outcome);
        }
        let ciphertext = &mut bytes_of(&memory.buffer)[..self.live];
        self.live = 0;
        let outcome = run(&mut self.engine, ciphertext);
        memory.holder.store(0, Relaxed);
        let (taken, outcome) = outcome?;
        self.held.extend_from_slice(&ciphertext[taken..]);
        Ok(outcome)
    }

    /// Queue what rustls said, then turn its fault into an exception.
    fn settle<T>(&mut self, py: Python<'_>, outcome: Result<T, Error>) -> PyResult<T> {
        if !self.engine.said.is_empty() {
            self.outgoing.push(PyBytes::new(py, &self.engine.said).into_any().unbind());
            self.engine.said.clear();
        }
        outcome.map_err(|error| fault::raised(&error))
    }

    /// Have `encrypt` write what it needs into memory of Python, without the GIL.
    fn encrypt(
        &mut self,
        py: Python<'_>,
        encrypt: impl Fn(&mut Ready<'_>, &mut [u8]) -> Result<usize, EncryptError> + Sync,
    ) -> PyResult<()> {
        let memory = self.memory.clone_ref(py);
        let seal = |mut traffic: Ready<'_>| -> PyResult<Vec<Py<PyAny>>> {
            let size = match encrypt(&mut traffic, &mut []) {
                Ok(_) => return Ok(vec![]),
                Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => required_size,
                Err(EncryptError::EncryptExhausted) => return Err(fault::plain("the keys are used up")),
            };
            if !(WORTH_KEEPING..=SPARE_SIZE).contains(&size) {
                let fill = |space: &mut [u8]| match py.detach(|| encrypt(&mut traffic, space)) {
                    Ok(written) if written == size => Ok(()),
                    _ => Err(fault::plain("the ciphertext has another size than was said")),
                };
                return Ok(vec![PyBytes::new_with(py, size, fill)?.into_any().unbind()]);
            }
            let spare = memory.get().spare(py)?;
            let space = &mut bytes_of(&PyBuffer::get(&spare)?)[..size];
            let (said, sealed) = py
                .detach(|| sealing::into(space, |rest| encrypt(&mut traffic, rest)))
                .map_err(|_| fault::plain("the keys are used up"))?;
            let view = PyMemoryView::from(&spare)?.get_item(PySlice::new(py, 0, sealed as isize, 1))?;
            let mut pieces = vec![view.unbind()];
            if !said.is_empty() {
                pieces.insert(0, PyBytes::new(py, &said).into_any().unbind());
            }
            Ok(pieces)
        };
        let outcome = self.advance(|engine, ciphertext| engine.advance(ciphertext, Stop::Never, seal));
        match self.settle(py, outcome)? {
            Some(sealed) => self.outgoing.extend(sealed?),
            None => return Err(fault::plain("the handshake is not complete")),
        }
        Ok(())
    }
}

#[pymethods]
impl Session {
    /// The peer has said close_notify, and all before it is delivered.
    #[getter]
    fn closed(&self) -> bool {
        self.engine.closed && self.engine.rest.is_empty()
    }

    /// The server asked for a client certificate.
    #[getter]
    fn asked(&self) -> bool {
        self.traces.lock().unwrap().asked
    }

    /// Memory for the next ciphertext, never empty, valid until `received`.
    ///
    /// Raises BufferError when all of it holds ciphertext that `read_into` has not been asked for.
    fn get_buffer<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let memory = self.memory.get();
        if ![0, self.id].contains(&memory.holder.load(Relaxed)) {
            return Err(PyBufferError::new_err("the memory holds the ciphertext of another session"));
        }
        if self.live > 0 {
            self.held.extend_from_slice(&bytes_of(&memory.buffer)[..self.live]);
            self.live = 0;
        }
        let (begin, end) = (self.held.len(), memory.buffer.len_bytes());
        if begin >= end {
            return Err(PyBufferError::new_err("the memory is full of ciphertext"));
        }
        memory.view.bind(py).get_item(PySlice::new(py, begin as isize, end as isize, 1))
    }

    /// `count` bytes of ciphertext are in the buffer. Raises ValueError for more than it holds.
    fn received(&mut self, count: usize) -> PyResult<()> {
        let memory = self.memory.get();
        let (begin, bytes) = (self.held.len(), bytes_of(&memory.buffer));
        if self.live > 0 || begin >= bytes.len() || count > bytes.len() - begin {
            return Err(PyValueError::new_err("more bytes than the buffer holds"));
        }
        bytes[..begin].copy_from_slice(&self.held);
        self.held.clear();
        self.live = begin + count;
        memory.holder.store(if self.live > 0 { self.id } else { 0 }, Relaxed);
        Ok(())
    }

    /// Go as far as the received bytes allow; True when the session is ready.
    ///
    /// Raises what the judge of certificates raised, and TlsError.
    fn handshake(&mut self, py: Python<'_>) -> PyResult<bool> {
        let outcome = self.advance(|engine, ciphertext| engine.advance(ciphertext, Stop::Never, |_| ()));
        let outcome = self.settle(py, outcome);
        if let Some(refusal) = self.traces.lock().unwrap().refusal.take() {
            return Err(refusal);
        }
        let ready = outcome?.is_some();
        if !ready && self.held.len() >= self.memory.get().buffer.len_bytes() {
            return Err(fault::plain("the server's handshake is too long"));
        }
        Ok(ready)
    }

    /// Fill `buffer` with plaintext as far as there is any, without the GIL. Raises TlsError.
    fn read_into(&mut self, py: Python<'_>, buffer: PyBuffer<u8>) -> PyResult<usize> {
        if buffer.readonly() || !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("the buffer must be writable and contiguous"));
        }
        let out = bytes_of(&buffer);
        let outcome = self.advance(|engine, ciphertext| py.detach(|| engine.read(ciphertext, out)));
        self.settle(py, outcome)
    }

    /// Encrypt all of `data`, without the GIL. Raises TlsError.
    fn write(&mut self, py: Python<'_>, data: PyBuffer<u8>) -> PyResult<()> {
        if !data.is_c_contiguous() {
            return Err(PyBufferError::new_err("the data must be contiguous"));
        }
        let plain: &[u8] = bytes_of(&data);
        self.encrypt(py, |traffic, space| traffic.encrypt(plain, space))
    }

    /// The ciphertext to be sent, in order; empty when there is none. Its memory is used again once it is let go.
    fn take<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mut pieces = std::mem::take(&mut self.outgoing);
        match (pieces.pop(), pieces.is_empty()) {
            (None, _) => Ok(PyBytes::new(py, b"").into_any()),
            (Some(only), true) => Ok(only.into_bound(py)),
            (Some(last), false) => {
                pieces.push(last);
                PyBytes::new(py, b"").call_method1("join", (pieces,))
            }
        }
    }

    /// Say close_notify. Raises TlsError.
    fn close(&mut self, py: Python<'_>) -> PyResult<()> {
        self.encrypt(py, |traffic, space| traffic.queue_close_notify(space))
    }
}

/// Views refer to what they show, and the loop refers to the view that it has not sent.
fn refers_nobody_else(object: &Py<PyByteArray>) -> bool {
    // SAFETY: the object is alive, for we refer to it.
    unsafe { pyo3::ffi::Py_REFCNT(object.as_ptr()) == 1 }
}

/// The memory of a buffer.
///
/// Whoever gives a buffer owns its memory and leaves it alone during the call, as with `socket.recv_into`.
fn bytes_of<'b>(buffer: &PyBuffer<u8>) -> &'b mut [u8] {
    if buffer.len_bytes() == 0 {
        return &mut [];
    }
    // SAFETY: the exporter keeps the memory in place while the PyBuffer lives, which is longer than any use in
    // this module; contiguity and, before writes, writability are checked where the buffer comes in.
    unsafe { std::slice::from_raw_parts_mut(buffer.buf_ptr().cast(), buffer.len_bytes()) }
}
