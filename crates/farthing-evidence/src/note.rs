//! Signed notes (C2SP signed-note): a text, a blank line, and who signed it.
//!
//! ```text
//! api.example.com/book
//! 8
//! 3Yyp…=
//!
//! — api.example.com/book Cj9y…=
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::keys::{PublicKey, SecretKey, is_name};

#[cfg(test)]
mod tests;

/// The kind of signature: Ed25519.
const ED25519: u8 = 0x01;

/// What a line that signs begins with.
const DASH: &str = "\u{2014} ";

/// The longest note that is read, in bytes.
const NOTE_BYTES_MAX: usize = 64 * 1024;

/// The most signatures of a note.
const SIGNATURES_MAX: usize = 64;

/// A key under the name it signs notes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteKey {
    name: String,
    key: PublicKey,
}

impl NoteKey {
    /// A key under a name; nothing where no note could carry it.
    #[must_use]
    pub fn new(name: &str, key: PublicKey) -> Option<Self> {
        is_name(name).then(|| Self { name: name.to_owned(), key })
    }

    /// The first bytes of the hash of name, kind and key: what a signature says of who made it.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let mut hasher = Sha256::new();
        for part in [self.name.as_bytes(), b"\n", &[ED25519], &self.key.to_bytes()] {
            hasher.update(part);
        }
        let hash: [u8; 32] = hasher.finalize().into();
        let [a, b, c, d, ..] = hash;
        [a, b, c, d]
    }

    /// The key as other tools for signed notes read it: name, id, and the kind and bytes in base64.
    #[must_use]
    pub fn text(&self) -> String {
        let id = u32::from_be_bytes(self.id());
        let bytes = [&[ED25519], self.key.to_bytes().as_slice()].concat();
        format!("{}+{id:08x}+{}", self.name, STANDARD.encode(bytes))
    }

    /// Reads a key as other tools write it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '+');
        let (name, id, bytes) = (parts.next()?, parts.next()?, parts.next()?);
        let bytes = STANDARD.decode(bytes).ok()?;
        let (ED25519, key) = bytes.split_first().map(|(kind, key)| (*kind, key))? else {
            return None;
        };
        let key = Self::new(name, PublicKey::from_bytes(key.try_into().ok()?)?)?;
        (format!("{:08x}", u32::from_be_bytes(key.id())) == id).then_some(key)
    }
}

/// Signs a text. Nothing where the text or the name cannot stand in a note.
pub(crate) fn sign(text: &str, name: &str, key: &SecretKey) -> Option<String> {
    let signer = NoteKey::new(name, key.public())?;
    if !is_text(text) {
        return None;
    }
    let signature = [signer.id().as_slice(), &key.sign(text.as_bytes())].concat();
    Some(format!("{text}\n{DASH}{name} {}\n", STANDARD.encode(signature)))
}

/// The text of a note that at least one of `keys` has signed. Signatures of other keys are passed over,
/// as those of witnesses may be; one of `keys` that does not verify spoils the note.
///
/// # Errors
///
/// A [`NoteError`].
pub fn open<'a>(note: &'a str, keys: &[NoteKey]) -> Result<&'a str, NoteError> {
    if note.len() > NOTE_BYTES_MAX || !is_text(note) {
        return Err(NoteError::Malformed);
    }
    let blank = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
    let (text, signatures) = note.split_at(blank.saturating_add(1));
    let signatures = signatures.strip_prefix('\n').unwrap_or_default();
    if signatures.is_empty() || signatures.lines().count() > SIGNATURES_MAX {
        return Err(NoteError::Malformed);
    }
    let mut signed = false;
    for line in signatures.lines() {
        let (name, id, signature) = read_signature(line).ok_or(NoteError::Malformed)?;
        let Some(known) = keys.iter().find(|it| it.name == name && it.id() == id) else { continue };
        if !known.key.verifies(text.as_bytes(), &signature) {
            return Err(NoteError::Signature);
        }
        signed = true;
    }
    if signed { Ok(text) } else { Err(NoteError::Key) }
}

fn read_signature(line: &str) -> Option<(&str, [u8; 4], Vec<u8>)> {
    let (name, signature) = line.strip_prefix(DASH)?.split_once(' ')?;
    let bytes = STANDARD.decode(signature).ok()?;
    let (id, signature) = bytes.split_first_chunk::<4>()?;
    (is_name(name) && !signature.is_empty()).then(|| (name, *id, signature.to_vec()))
}

/// Whether a text ends with its last line, and has no control characters but line feeds.
fn is_text(text: &str) -> bool {
    text.ends_with('\n') && text.chars().all(|char| char == '\n' || !char.is_control())
}

/// Why a note is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a signed note.
    #[error("it is not a signed note")]
    Malformed,
    /// Nobody who is trusted has signed it.
    #[error("none of the trusted keys has signed it")]
    Key,
    /// A signature of a trusted key does not fit.
    #[error("its signature does not verify: it was altered after it was signed")]
    Signature,
}
