//! Plaintext goes straight into the memory of the caller.
//!
//! rustls returns each record in a vector of its own: an allocation, a copy into it, and another one out of it. So
//! its cipher suites are wrapped, and application data is moved to the caller's memory as far as there is room, all
//! but its last byte, which goes the usual way: rustls refuses peers that send one empty record after another, and
//! must keep counting. Records of AES-GCM in TLS 1.3 are opened into that memory, all others in place and copied.
//! Everything else (keys, sequence numbers, alerts, limits, the order of messages) is done by rustls and its provider.

use std::cell::Cell;

use aws_lc_rs::aead::{self, Aad, Algorithm, LessSafeKey, UnboundKey};
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, Nonce, make_tls13_aad,
};
use rustls::{ContentType, Error};

use crate::lent::Lent;

/// Plaintext of the largest record, and its type (RFC 8446 5.4).
const LARGEST: usize = (1 << 14) + 1;

thread_local! {
    /// The caller's memory, while this thread is in `into`.
    static ROOM: Lent = const { Lent::none() };
    /// The end of a record is with rustls; what follows it must wait.
    static OWED: Cell<bool> = const { Cell::new(false) };
}

/// Run `decrypt` with application data going to `room`. Returns its result, and the bytes delivered.
pub fn into<R>(room: &mut [u8], decrypt: impl FnOnce() -> R) -> (R, usize) {
    OWED.set(false);
    ROOM.with(|lent| lent.lend(room, decrypt))
}

/// Deliver data that came the usual way. Returns how many bytes; there is no room for the rest.
pub fn deliver(data: &[u8]) -> usize {
    OWED.set(false);
    copy(data)
}

/// No room is left, or there was none.
pub fn is_full() -> bool {
    ROOM.with(|room| room.left() == 0)
}

/// Copy the beginning of `data` into the room. Returns how many bytes.
fn copy(data: &[u8]) -> usize {
    ROOM.with(|room| {
        room.fill(|left| {
            let fits = data.len().min(left.len());
            left[..fits].copy_from_slice(&data[..fits]);
            (fits, fits)
        })
    })
}

/// Opens incoming records.
pub enum Delivering {
    /// AES-GCM of TLS 1.3: out of the ciphertext into the caller's memory.
    Direct(LessSafeKey, Iv),
    /// The provider, in place; the plaintext is copied from there.
    Provider(Box<dyn MessageDecrypter>),
}

impl Delivering {
    /// None if the key does not fit.
    pub fn direct(algorithm: &'static Algorithm, key: &AeadKey, iv: &Iv) -> Option<Self> {
        let key = UnboundKey::new(algorithm, key.as_ref()).ok()?;
        Some(Self::Direct(LessSafeKey::new(key), Iv::copy(iv.as_ref())))
    }
}

impl MessageDecrypter for Delivering {
    fn decrypt<'a>(
        &mut self,
        mut message: InboundOpaqueMessage<'a>,
        number: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let mut plain = match self {
            Self::Provider(provider) => provider.decrypt(message, number)?,
            Self::Direct(key, iv) => {
                let left = open(key, &Nonce::new(iv, number), &mut message.payload)?;
                message.payload.truncate(left);
                message.into_tls13_unpadded_message()?
            }
        };
        if let (ContentType::ApplicationData, [beginning @ .., _]) = (plain.typ, plain.payload) {
            if !OWED.replace(true) {
                plain.payload = &plain.payload[copy(beginning)..];
            }
        }
        Ok(plain)
    }
}

/// Open a record of TLS 1.3 into the room if it is sure to fit, else in place.
///
/// Returns how many bytes at the beginning of `payload` are plaintext with type and padding: all of it, or the
/// part that the room does not keep.
fn open(key: &LessSafeKey, nonce: &Nonce, payload: &mut [u8]) -> Result<usize, Error> {
    let (nonce, aad) =
        (aead::Nonce::assume_unique_for_key(nonce.0), Aad::from(make_tls13_aad(payload.len())));
    let size = payload.len().checked_sub(key.algorithm().tag_len()).ok_or(Error::DecryptError)?;
    ROOM.with(|room| {
        if OWED.get() || !(1..=LARGEST).contains(&size) || size > room.left() {
            return match key.open_in_place(nonce, aad, payload) {
                Ok(plain) => Ok(plain.len()),
                Err(_) => Err(Error::DecryptError),
            };
        }
        room.fill(|left| {
            let (ciphertext, tag) = payload.split_at(size);
            let plain = &mut left[..size];
            if key.open_separate_gather(nonce, aad, ciphertext, tag, plain).is_err() {
                plain.fill(0);
                return (0, Err(Error::DecryptError));
            }
            let end = plain.iter().rposition(|byte| *byte != 0).unwrap_or(0); // the type; zeros are padding
            let is_data = plain[end] == u8::from(ContentType::ApplicationData);
            let kept = if is_data { end.saturating_sub(1) } else { 0 };
            let rest = &mut plain[kept..];
            let count = rest.len();
            payload[..count].copy_from_slice(rest);
            rest.fill(0);
            OWED.set(kept > 0);
            (kept, Ok(count))
        })
    })
}
