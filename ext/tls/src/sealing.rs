//! Records are sealed from the plaintext of the caller straight into memory for ciphertext.
//!
//! rustls builds each record in a vector of its own, from a copy of the plaintext, and copies it to where it is
//! wanted. So its cipher suites are wrapped: within `into`, records of application data go to the memory given, and
//! rustls gets empty ones in their place, which are dropped. rustls still decides what is sealed, when, by which key
//! and under which number.

use std::cell::Cell;

use aws_lc_rs::aead::{self, Aad, Algorithm, TlsProtocolId, TlsRecordSealingKey};
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageEncrypter, Nonce, OutboundChunks, OutboundOpaqueMessage as Sealed,
    OutboundPlainMessage, PrefixedPayload, make_tls13_aad,
};
use rustls::unbuffered::{EncryptError, InsufficientSizeError};
use rustls::{ContentType, Error, ProtocolVersion};

use crate::lent::Lent;

/// Bytes of a record before its payload.
const HEADER: usize = 5;

thread_local! {
    /// Memory for ciphertext, while this thread is in `into`.
    static SPACE: Lent = const { Lent::none() };
    /// The records in it.
    static RECORDS: Cell<usize> = const { Cell::new(0) };
}

/// Have `encrypt` seal application data into `memory`.
///
/// `encrypt` is called with memory for other messages of rustls, until it has enough. Returns those messages, which
/// come first, and how many bytes of `memory` hold records.
pub fn into(
    memory: &mut [u8],
    mut encrypt: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(Vec<u8>, usize), EncryptError> {
    RECORDS.set(0);
    let mut messages = vec![];
    let (outcome, used) = SPACE.with(|space| {
        space.lend(memory, || {
            loop {
                match encrypt(&mut messages) {
                    Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                        messages.resize(required_size, 0);
                    }
                    outcome => return outcome,
                }
            }
        })
    });
    messages.truncate(outcome? - RECORDS.get() * HEADER);
    Ok((messages, used))
}

/// Seals outgoing records.
pub enum Sealing {
    /// AES-GCM of TLS 1.3: from the plaintext into the space.
    Direct(TlsRecordSealingKey, Iv),
    /// The provider, in a vector, which is copied.
    Provider(Box<dyn MessageEncrypter>),
}

impl Sealing {
    /// None if the key does not fit.
    pub fn direct(algorithm: &'static Algorithm, key: &AeadKey, iv: &Iv) -> Option<Self> {
        let key = TlsRecordSealingKey::new(algorithm, TlsProtocolId::TLS13, key.as_ref()).ok()?;
        Some(Self::Direct(key, Iv::copy(iv.as_ref())))
    }

    fn payload_len(&self, plain: usize) -> usize {
        match self {
            Self::Direct(key, _) => plain + 1 + key.algorithm().tag_len(),
            Self::Provider(provider) => provider.encrypted_payload_len(plain),
        }
    }

    fn seal(&mut self, message: OutboundPlainMessage<'_>, number: u64) -> Result<Sealed, Error> {
        let size = self.payload_len(message.payload.len());
        match self {
            Self::Direct(key, iv) => {
                let (nonce, aad) = (nonce(iv, number), Aad::from(make_tls13_aad(size)));
                let mut payload = PrefixedPayload::with_capacity(size);
                payload.extend_from_chunks(&message.payload);
                payload.extend_from_slice(&[message.typ.into()]);
                key.seal_in_place_append_tag(nonce, aad, &mut payload).map_err(|_| Error::EncryptError)?;
                Ok(Sealed::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, payload))
            }
            Self::Provider(provider) => provider.encrypt(message, number),
        }
    }

    /// Make all of `record`.
    fn seal_into(
        &mut self,
        record: &mut [u8],
        message: OutboundPlainMessage<'_>,
        number: u64,
    ) -> Result<(), Error> {
        if let (Self::Direct(key, iv), OutboundChunks::Single(plain)) = (&mut *self, &message.payload) {
            let (header, payload) = record.split_at_mut(HEADER);
            let aad = make_tls13_aad(payload.len()); // is the header (RFC 8446 5.2)
            header.copy_from_slice(&aad);
            let (ciphertext, end) = payload.split_at_mut(plain.len());
            let typ = [u8::from(message.typ)];
            return key
                .seal_out_of_place_scatter(nonce(iv, number), Aad::from(aad), plain, ciphertext, &typ, end)
                .map_err(|_| Error::EncryptError);
        }
        record.copy_from_slice(&self.seal(message, number)?.encode());
        Ok(())
    }
}

impl MessageEncrypter for Sealing {
    fn encrypt(&mut self, message: OutboundPlainMessage<'_>, number: u64) -> Result<Sealed, Error> {
        if message.typ != ContentType::ApplicationData || !SPACE.with(Lent::is_lent) {
            return self.seal(message, number);
        }
        let size = HEADER + self.payload_len(message.payload.len());
        let empty = Sealed::new(message.typ, message.version, PrefixedPayload::with_capacity(0));
        SPACE.with(|space| {
            space.fill(|left| {
                let sealed = match left.get_mut(..size) {
                    Some(record) => self.seal_into(record, message, number),
                    None => Err(Error::EncryptError),
                };
                (if sealed.is_ok() { size } else { 0 }, sealed)
            })
        })?;
        RECORDS.set(RECORDS.get() + 1);
        Ok(empty)
    }

    /// The memory that rustls must find: none for a record that goes to the space.
    fn encrypted_payload_len(&self, plain: usize) -> usize {
        if SPACE.with(Lent::is_lent) { 0 } else { self.payload_len(plain) }
    }
}

fn nonce(iv: &Iv, number: u64) -> aead::Nonce {
    aead::Nonce::assume_unique_for_key(Nonce::new(iv, number).0)
}
