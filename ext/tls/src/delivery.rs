//! Plaintext goes straight into the memory of the caller.
//!
//! rustls hands over each record in a vector of its own: an allocation, a copy into it, and another one out of it. So
//! its cipher suites are wrapped, and application data is moved to the caller's memory as far as there is room, all
//! but its last byte, which goes the usual way: rustls refuses peers that send one empty record after another, and
//! shall go on to count. Records of AES-GCM in TLS 1.3 are opened into that memory, all others in place and copied.
//! All else, keys, numbers, alerts, limits, the order of messages, is done by rustls and its provider.

use std::cell::RefCell;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, UnboundKey};
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, Nonce, make_tls13_aad,
};
use rustls::{CipherSuite, ContentType, Error};

use crate::suites;

/// Plaintext of the largest record, and its type (RFC 8446 5.4).
const LARGEST: usize = (1 << 14) + 1;

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

/// Opens the records that come in.
pub enum Delivering {
    /// AES-GCM of TLS 1.3: out of the ciphertext into the caller's memory.
    Direct(LessSafeKey, Iv),
    /// The provider, in place; from there the plaintext is copied.
    Provider(Box<dyn MessageDecrypter>),
}

impl Delivering {
    /// None when it is for the provider to open them.
    pub fn direct(suite: CipherSuite, key: &AeadKey, iv: &Iv) -> Option<Self> {
        let key = UnboundKey::new(suites::gcm_of_tls13(suite)?, key.as_ref()).ok()?;
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

/// Open a record of TLS 1.3 into the room if it is sure to fit, else in place.
///
/// Returns how many bytes at the beginning of `payload` are plaintext with type and padding: all of it, or what
/// the room does not keep.
fn open(key: &LessSafeKey, nonce: &Nonce, payload: &mut [u8]) -> Result<usize, Error> {
    let (nonce, aad) =
        (aead::Nonce::assume_unique_for_key(nonce.0), Aad::from(make_tls13_aad(payload.len())));
    let size = payload.len().checked_sub(key.algorithm().tag_len()).ok_or(Error::DecryptError)?;
    ROOM.with_borrow_mut(|room| {
        if room.owed || !(1..=LARGEST).contains(&size) || size > room.left.len() {
            return match key.open_in_place(nonce, aad, payload) {
                Ok(plain) => Ok(plain.len()),
                Err(_) => Err(Error::DecryptError),
            };
        }
        let (ciphertext, tag) = payload.split_at(size);
        let plain = &mut room.left[..size];
        if key.open_separate_gather(nonce, aad, ciphertext, tag, plain).is_err() {
            plain.fill(0);
            return Err(Error::DecryptError);
        }
        let end = plain.iter().rposition(|byte| *byte != 0).unwrap_or(0); // the type; zeros are padding
        let is_data = plain[end] == u8::from(ContentType::ApplicationData);
        let kept = if is_data { end.saturating_sub(1) } else { 0 };
        let rest = &mut plain[kept..];
        let left = rest.len();
        payload[..left].copy_from_slice(rest);
        rest.fill(0);
        room.left = &mut std::mem::take(&mut room.left)[kept..];
        room.owed = kept > 0;
        Ok(left)
    })
}
