//! One TLS client session; ciphertext passes through memory that sessions share.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

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

/// The part that works without Python.
struct Engine {
    connection: UnbufferedClientConnection,
    /// Decrypted and not delivered, `rest[rest_at..]`: usually the end of one record.
    rest: Vec<u8>,
    rest_at: usize,
    /// Messages of rustls itself, to be sent: handshake, alerts, key updates.
    messages: Vec<u8>,
    closed: bool,
    /// The error that broke the session: rustls must not be called again.
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
    fn read(&mut self, ciphertext: &mut [u8], out: &mut [u8]) -> Result<(usize, usize), Error> {
        let rest = self.deliver_rest(out);
        let room = &mut out[rest..];
        if room.is_empty() {
            return Ok((0, rest));
        }
        let (outcome, delivered) = delivery::into(room, || self.advance(ciphertext, Stop::Full, |_| ()));
        Ok((outcome?.0, rest + delivered))
    }

    /// Continue until the session is ready to encrypt and all ciphertext is taken, which calls `ready`, or until
    /// more ciphertext is needed in the middle of the handshake, or as `stop` says.
    /// Returns the bytes taken of `ciphertext`, and the result of `ready`.
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
                    self.queue_alert(&mut ciphertext[taken + discard..]);
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
                    if stop == Stop::Full && delivery::is_full() {
                        done = Some(None);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    append(&mut self.messages, |space| data.encode(space));
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

    /// After a fault: the alert for the peer. rustls must be given the ciphertext that it has not discarded, and
    /// takes no more of it.
    fn queue_alert(&mut self, ciphertext: &mut [u8]) {
        while let UnbufferedStatus { state: Ok(ConnectionState::EncodeTlsData(mut data)), .. } =
            self.connection.process_tls_records(ciphertext)
        {
            append(&mut self.messages, |space| data.encode(space));
        }
    }
}

/// Have `encode` append to `messages` as much as it needs.
fn append(messages: &mut Vec<u8>, mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
    let at = messages.len();
    loop {
        match encode(&mut messages[at..]) {
            Ok(written) => return messages.truncate(at + written),
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                messages.resize(at + required_size, 0);
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
    buffer: Mutex<PyBuffer<u8>>,
    size: usize,
    view: Py<PyAny>,
    /// The session whose ciphertext is in it, 0: none.
    holder: AtomicUsize,
    /// For ciphertext to be sent; in use while there is another reference to it.
    spares: Mutex<Vec<Py<PyByteArray>>>,
}

impl Memory {
    /// The memory for incoming ciphertext. Sessions that share it take turns: the lock is never waited for.
    fn buffer(&self) -> PyResult<MutexGuard<'_, PyBuffer<u8>>> {
        self.buffer.try_lock().map_err(|_| PyBufferError::new_err("the memory is in use by another thread"))
    }

    /// `SPARE_SIZE` bytes that are not in use.
    fn spare<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        let mut spares = self.spares.lock().unwrap();
        if let Some(idle) = spares.iter().find(|spare| is_unshared(spare)) {
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
        let buffer = Mutex::new(PyBuffer::get(&bytes)?);
        let view = PyMemoryView::from(&bytes)?.into_any().unbind();
        Ok(Self { buffer, size, view, holder: AtomicUsize::new(0), spares: Mutex::default() })
    }
}

static SESSIONS: AtomicUsize = AtomicUsize::new(1);

/// A TLS session. One thread at a time; a second one gets RuntimeError.
#[pyclass(module = "crossdock_tls")]
pub struct Session {
    engine: Engine,
    id: usize,
    memory: Py<Memory>,
    /// Ciphertext in the memory that is received and not yet processed: its first `live` bytes.
    live: usize,
    /// Ciphertext that was processed and not taken: part of a record, or more when there was no room.
    held: Vec<u8>,
    /// Ciphertext in the order of sending.
    outgoing: Vec<Py<PyAny>>,
    traces: Shared,
}

impl Session {
    pub fn new(connection: UnbufferedClientConnection, memory: Py<Memory>, traces: Shared) -> Self {
        let engine = Engine {
            connection,
            rest: Vec::new(),
            rest_at: 0,
            messages: Vec::new(),
            closed: false,
            fault: None,
        };
        let id = SESSIONS.fetch_add(1, Relaxed);
        Self { engine, id, memory, live: 0, held: Vec::new(), outgoing: Vec::new(), traces }
    }

    /// Have the engine continue with the ciphertext there is; none is left in the memory afterwards. Messages of
    /// rustls are queued, its error becomes an exception. `run` returns the bytes it took, and the result.
    fn advance<T>(
        &mut self,
        py: Python<'_>,
        run: impl FnOnce(&mut Engine, &mut [u8]) -> Result<(usize, T), Error>,
    ) -> PyResult<T> {
        let outcome = if self.live == 0 {
            run(&mut self.engine, &mut self.held).map(|(taken, outcome)| {
                self.held.drain(..taken);
                outcome
            })
        } else {
            let memory = self.memory.get();
            let mut buffer = memory.buffer()?;
            let ciphertext = &mut bytes_mut(&mut buffer)[..self.live];
            self.live = 0;
            let outcome = run(&mut self.engine, ciphertext);
            memory.holder.store(0, Relaxed);
            outcome.map(|(taken, outcome)| {
                self.held.extend_from_slice(&ciphertext[taken..]);
                outcome
            })
        };
        if !self.engine.messages.is_empty() {
            self.outgoing.push(PyBytes::new(py, &self.engine.messages).into_any().unbind());
            self.engine.messages.clear();
        }
        outcome.map_err(|error| fault::raised(&error))
    }

    /// Have `encrypt` write into memory of Python, without the GIL.
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
                    _ => Err(fault::plain("the ciphertext is not as long as announced")),
                };
                return Ok(vec![PyBytes::new_with(py, size, fill)?.into_any().unbind()]);
            }
            let spare = memory.get().spare(py)?;
            let mut buffer = PyBuffer::get(&spare)?;
            let space = &mut bytes_mut(&mut buffer)[..size];
            let (messages, sealed) = py
                .detach(|| sealing::into(space, |rest| encrypt(&mut traffic, rest)))
                .map_err(|_| fault::plain("the keys are used up"))?;
            let view = PyMemoryView::from(&spare)?.get_item(PySlice::new(py, 0, sealed as isize, 1))?;
            let mut pieces = vec![view.unbind()];
            if !messages.is_empty() {
                pieces.insert(0, PyBytes::new(py, &messages).into_any().unbind());
            }
            Ok(pieces)
        };
        match self.advance(py, |engine, ciphertext| engine.advance(ciphertext, Stop::Never, seal))? {
            Some(sealed) => self.outgoing.extend(sealed?),
            None => return Err(fault::plain("the handshake is not complete")),
        }
        Ok(())
    }
}

#[pymethods]
impl Session {
    /// The peer has sent close_notify, and everything before it is delivered.
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
    /// Raises BufferError when it is full of ciphertext that `read_into` has not taken.
    fn get_buffer<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let memory = self.memory.get();
        if ![0, self.id].contains(&memory.holder.load(Relaxed)) {
            return Err(PyBufferError::new_err("the memory holds the ciphertext of another session"));
        }
        if self.live > 0 {
            self.held.extend_from_slice(&bytes(&*memory.buffer()?)[..self.live]);
            self.live = 0;
        }
        let (begin, end) = (self.held.len(), memory.size);
        if begin >= end {
            return Err(PyBufferError::new_err("the memory is full of ciphertext"));
        }
        memory.view.bind(py).get_item(PySlice::new(py, begin as isize, end as isize, 1))
    }

    /// `count` bytes of ciphertext are in the buffer. Raises ValueError for more than it holds.
    fn received(&mut self, count: usize) -> PyResult<()> {
        let memory = self.memory.get();
        let begin = self.held.len();
        if self.live > 0 || begin >= memory.size || count > memory.size - begin {
            return Err(PyValueError::new_err("more bytes than the buffer holds"));
        }
        bytes_mut(&mut *memory.buffer()?)[..begin].copy_from_slice(&self.held);
        self.held.clear();
        self.live = begin + count;
        memory.holder.store(if self.live > 0 { self.id } else { 0 }, Relaxed);
        Ok(())
    }

    /// Continue as far as the received bytes allow; True when the session is ready.
    ///
    /// Raises the exceptions of the judge of certificates, and TlsError.
    fn handshake(&mut self, py: Python<'_>) -> PyResult<bool> {
        let outcome = self.advance(py, |engine, ciphertext| engine.advance(ciphertext, Stop::Never, |_| ()));
        if let Some(refusal) = self.traces.lock().unwrap().refusal.take() {
            return Err(refusal);
        }
        let ready = outcome?.is_some();
        if !ready && self.held.len() >= self.memory.get().size {
            return Err(fault::plain("the server's handshake is too long"));
        }
        Ok(ready)
    }

    /// Fill `buffer` with plaintext as far as there is any, without the GIL. Raises TlsError.
    fn read_into(&mut self, py: Python<'_>, mut buffer: PyBuffer<u8>) -> PyResult<usize> {
        if buffer.readonly() || !buffer.is_c_contiguous() {
            return Err(PyBufferError::new_err("the buffer must be writable and contiguous"));
        }
        let out = bytes_mut(&mut buffer);
        self.advance(py, |engine, ciphertext| py.detach(|| engine.read(ciphertext, out)))
    }

    /// Encrypt all of `data`, without the GIL. Raises TlsError.
    fn write(&mut self, py: Python<'_>, data: PyBuffer<u8>) -> PyResult<()> {
        if !data.is_c_contiguous() {
            return Err(PyBufferError::new_err("the data must be contiguous"));
        }
        let plain = bytes(&data);
        self.encrypt(py, |traffic, space| traffic.encrypt(plain, space))
    }

    /// The ciphertext to be sent, in order; empty when there is none. Its memory is reused once it is released.
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

    /// Queue close_notify. Raises TlsError.
    fn close(&mut self, py: Python<'_>) -> PyResult<()> {
        self.encrypt(py, |traffic, space| traffic.queue_close_notify(space))
    }
}

/// Whether nothing refers to the object but us: views refer to it, and the loop to the views that it has not sent.
fn is_unshared(object: &Py<PyByteArray>) -> bool {
    // SAFETY: the object is alive, since we refer to it.
    unsafe { pyo3::ffi::Py_REFCNT(object.as_ptr()) == 1 }
}

/// The memory of a contiguous buffer.
fn bytes(buffer: &PyBuffer<u8>) -> &[u8] {
    if buffer.len_bytes() == 0 {
        return &[];
    }
    // SAFETY: the exporter keeps the memory in place while the PyBuffer lives. Callers of this module must not
    // change it during a call, as with `socket.send`.
    unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast(), buffer.len_bytes()) }
}

/// The memory of a contiguous and writable buffer.
fn bytes_mut(buffer: &mut PyBuffer<u8>) -> &mut [u8] {
    if buffer.len_bytes() == 0 {
        return &mut [];
    }
    // SAFETY: as in `bytes`; callers of this module must not use the memory at all during a call, as with
    // `socket.recv_into`.
    unsafe { std::slice::from_raw_parts_mut(buffer.buf_ptr().cast(), buffer.len_bytes()) }
}
