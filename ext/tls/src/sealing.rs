//! Records are sealed from the plaintext of the caller straight into memory for ciphertext.
//!
//! rustls builds each record in a vector of its own, from a copy of the plaintext, and copies it to where it is
//! wanted. So its cipher suites are wrapped: within `into`, records of application data go to the memory given, and
//! rustls gets empty ones in their place, which are dropped. What is sealed, when, by which key and under which number
//! is for rustls to say.

use std::cell::RefCell;

use aws_lc_rs::aead::{self, Aad, TlsProtocolId, TlsRecordSealingKey};
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageEncrypter, Nonce, OutboundChunks, OutboundOpaqueMessage as Sealed,
    OutboundPlainMessage, PrefixedPayload, make_tls13_aad,
};
use rustls::unbuffered::{EncryptError, InsufficientSizeError};
use rustls::{CipherSuite, ContentType, Error, ProtocolVersion};

use crate::suites;

/// Bytes of a record before its payload.
const HEADER: usize = 5;

/// The caller's memory, of which the first `used` bytes hold `records` records.
struct Space {
    memory: &'static mut [u8],
    used: usize,
    records: usize,
}

impl Space {
    /// Memory for the next record, of `size` bytes.
    fn next(&mut self, size: usize) -> Result<&mut [u8], Error> {
        let record = self.memory.get_mut(self.used..self.used + size).ok_or(Error::EncryptError)?;
        self.used += size;
        self.records += 1;
        Ok(record)
    }
}

thread_local! {
    /// Set while this thread is in `into`.
    static SPACE: RefCell<Option<Space>> = const { RefCell::new(None) };
}

/// Takes the caller's memory away again, whatever happens.
struct Taken;

impl Drop for Taken {
    fn drop(&mut self) {
        SPACE.take();
    }
}

/// Have `encrypt` seal application data into `memory`.
///
/// `encrypt` is called with memory for what rustls has to say besides, until it has enough. Returns that, which
/// comes first, and how many bytes of `memory` hold records.
pub fn into(
    memory: &'static mut [u8],
    mut encrypt: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(Vec<u8>, usize), EncryptError> {
    SPACE.replace(Some(Space { memory, used: 0, records: 0 }));
    let _taken = Taken;
    let mut said = vec![];
    let written = loop {
        match encrypt(&mut said) {
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                said.resize(required_size, 0);
            }
            outcome => break outcome?,
        }
    };
    SPACE.with_borrow(|space| {
        let (used, records) = space.as_ref().map_or((0, 0), |space| (space.used, space.records));
        said.truncate(written - records * HEADER);
        Ok((said, used))
    })
}

/// Seals the records that go out.
pub enum Sealing {
    /// AES-GCM of TLS 1.3: from the plaintext into the space.
    Direct(TlsRecordSealingKey, Iv),
    /// The provider, in a vector, which is copied.
    Provider(Box<dyn MessageEncrypter>),
}

impl Sealing {
    /// None when it is for the provider to seal them.
    pub fn direct(suite: CipherSuite, key: &AeadKey, iv: &Iv) -> Option<Self> {
        let algorithm = suites::gcm_of_tls13(suite)?;
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
        let size = HEADER + self.payload_len(message.payload.len());
        SPACE.with_borrow_mut(|space| match space {
            Some(space) if message.typ == ContentType::ApplicationData => {
                let empty = Sealed::new(message.typ, message.version, PrefixedPayload::with_capacity(0));
                self.seal_into(space.next(size)?, message, number)?;
                Ok(empty)
            }
            _ => self.seal(message, number),
        })
    }

    /// What rustls has to find memory for: nothing of a record that goes to the space.
    fn encrypted_payload_len(&self, plain: usize) -> usize {
        if SPACE.with_borrow(Option::is_some) { 0 } else { self.payload_len(plain) }
    }
}

fn nonce(iv: &Iv, number: u64) -> aead::Nonce {
    aead::Nonce::assume_unique_for_key(Nonce::new(iv, number).0)
}
