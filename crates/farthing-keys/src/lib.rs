//! Keys on disk, encrypted under a passphrase.
//!
//! One file a key, `NAME.json`, readable by its owner alone: what the key is called, what kind it
//! is, its public half, and its secret half sealed with XChaCha20-Poly1305 under a key that
//! Argon2id makes of the passphrase. Name, kind and public half are bound into the seal, so a file
//! cannot be passed off as another.
//!
//! **Architecture invariant:** a secret has no `Debug`, no `Display` and no `Serialize`, is erased
//! from memory when dropped, and never stands on disk in the clear.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// The version of the file format.
const FORMAT: u8 = 1;

/// The longest key name.
const NAME_BYTES_MAX: usize = 64;

/// The most memory a key file may ask for, in KiB: a file must not be able to exhaust the machine.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;

/// The most passes a key file may ask for.
const PASSES_MAX: u32 = 16;

/// What a key signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// Ed25519, as prepaid accounts are spent with. The public half is 32 bytes.
    Ed25519,
    /// ECDSA on secp256k1, as chains of Ethereum's family have it. The public half is 33 bytes
    /// (SEC 1, compressed).
    Secp256k1,
}

/// The secret half of a key: 32 bytes, erased when dropped.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<[u8; 32]>);

impl SecretKey {
    /// Draws a new secret from the operating system.
    ///
    /// # Errors
    ///
    /// [`KeyError::Randomness`] when the system has none to give.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut()).map_err(|_| KeyError::Randomness)?;
        Ok(Self(bytes))
    }

    /// Takes a secret that was made elsewhere.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for whoever signs with them.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public half, unless the bytes are no key of this kind.
    fn public(&self, kind: KeyKind) -> Result<Vec<u8>, KeyError> {
        match kind {
            KeyKind::Ed25519 => {
                let key = ed25519_dalek::SigningKey::from_bytes(&self.0);
                Ok(key.verifying_key().to_bytes().to_vec())
            }
            KeyKind::Secp256k1 => {
                let key = k256::ecdsa::SigningKey::from_slice(self.expose());
                let key = key.map_err(|_| KeyError::NotAKey)?;
                Ok(key.verifying_key().to_encoded_point(true).as_bytes().to_vec())
            }
        }
    }

    /// Encrypts something that only the holder of this key may read, such as a credential that is
    /// kept until its outcome is known. `context` must be the same to open it again.
    ///
    /// # Errors
    ///
    /// [`KeyError::Randomness`] when the system has none to give.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut nonce = [0; 24];
        getrandom::fill(&mut nonce).map_err(|_| KeyError::Randomness)?;
        let payload = Payload { msg: plain, aad: context.as_bytes() };
        let sealed = self.sealer().encrypt(&XNonce::from(nonce), payload);
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed.map_err(|_| KeyError::Damaged)?);
        Ok(bytes)
    }

    /// Decrypts what [`SecretKey::seal`] encrypted.
    ///
    /// # Errors
    ///
    /// [`KeyError::Damaged`] when it was sealed under another key or context, or was altered.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let (nonce, sealed) = sealed.split_first_chunk::<24>().ok_or(KeyError::Damaged)?;
        let payload = Payload { msg: sealed, aad: context.as_bytes() };
        let plain = self.sealer().decrypt(&XNonce::from(*nonce), payload);
        plain.map(Zeroizing::new).map_err(|_| KeyError::Damaged)
    }

    /// A cipher under a key of its own, so that sealing says nothing about signing.
    fn sealer(&self) -> XChaCha20Poly1305 {
        let mut hasher = Sha256::new();
        hasher.update(b"farthing sealing key v1");
        hasher.update(self.expose());
        let key: [u8; 32] = hasher.finalize().into();
        XChaCha20Poly1305::new(&key.into())
    }
}

/// How much work a passphrase costs to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    memory_kib: u32,
    passes: u32,
}

impl Cost {
    /// 64 MiB and three passes: a fraction of a second here, and expensive to try at scale.
    pub const STRONG: Self = Self { memory_kib: 64 * 1024, passes: 3 };

    /// As little as there is, for tests.
    pub const LEAST: Self = Self { memory_kib: 8, passes: 1 };

    fn key(self, passphrase: &str, salt: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        if self.memory_kib > MEMORY_KIB_MAX || self.passes > PASSES_MAX {
            return Err(KeyError::Damaged);
        }
        let params = Params::new(self.memory_kib, self.passes, 1, Some(32));
        let params = params.map_err(|_| KeyError::Damaged)?;
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut key = Zeroizing::new([0; 32]);
        argon
            .hash_password_into(passphrase.as_bytes(), salt, key.as_mut())
            .map_err(|_| KeyError::Damaged)?;
        Ok(key)
    }
}

/// What can be known of a key without its passphrase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Its name.
    pub name: String,
    /// What it signs with.
    pub kind: KeyKind,
    /// Its public half.
    #[serde(serialize_with = "as_base64")]
    pub public: Vec<u8>,
}

/// A folder of keys.
#[derive(Clone, Debug)]
pub struct KeyFolder {
    path: PathBuf,
    cost: Cost,
}

impl KeyFolder {
    /// The folder at `path`, which is made when the first key is.
    #[must_use]
    pub fn new(path: &Path, cost: Cost) -> Self {
        Self { path: path.to_owned(), cost }
    }

    /// Stores a secret under a new name.
    ///
    /// # Crash safety
    ///
    /// The key is on disk when this returns. An existing key is never overwritten.
    ///
    /// # Errors
    ///
    /// A [`KeyError`]; no key is stored then.
    pub fn store(
        &self,
        name: &str,
        kind: KeyKind,
        secret: &SecretKey,
        passphrase: &str,
    ) -> Result<KeyInfo, KeyError> {
        if passphrase.is_empty() {
            return Err(KeyError::NoPassphrase);
        }
        let path = self.file(name)?;
        let mut random = [0; 40];
        getrandom::fill(&mut random).map_err(|_| KeyError::Randomness)?;
        let (salt, nonce) = random.split_at(16);
        let info = KeyInfo { name: name.to_owned(), kind, public: secret.public(kind)? };
        let cipher = XChaCha20Poly1305::new(&(*self.cost.key(passphrase, salt)?).into());
        let bound = bound(&info);
        let payload = Payload { msg: secret.expose(), aad: &bound };
        let nonce: [u8; 24] = nonce.try_into().map_err(|_| KeyError::Randomness)?;
        let sealed = cipher.encrypt(&XNonce::from(nonce), payload);
        let file = KeyFile {
            farthing_key: FORMAT,
            name: info.name.clone(),
            kind,
            public: BASE64.encode(&info.public),
            argon2id: self.cost,
            salt: BASE64.encode(salt),
            nonce: BASE64.encode(nonce),
            xchacha20poly1305: BASE64.encode(sealed.map_err(|_| KeyError::Damaged)?),
        };
        self.write(&path, &file)?;
        Ok(info)
    }

    /// Every key, by name.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] that names the file at fault.
    pub fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(KeyError::Io(error)),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let path = entry.map_err(KeyError::Io)?.path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if path.extension().is_some_and(|extension| extension == "json") && is_name(name) {
                keys.push(self.read(name)?.0);
            }
        }
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(keys)
    }

    /// What is known of the key called `name`.
    ///
    /// # Errors
    ///
    /// A [`KeyError`].
    pub fn info(&self, name: &str) -> Result<KeyInfo, KeyError> {
        self.read(name).map(|(info, _)| info)
    }

    /// Decrypts the key called `name`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Passphrase`] when the passphrase is not the one it was stored with, or the file
    /// was altered; nobody can tell the two apart.
    pub fn unlock(&self, name: &str, passphrase: &str) -> Result<SecretKey, KeyError> {
        let (info, file) = self.read(name)?;
        let decode = |text: &str| BASE64.decode(text).map_err(|_| KeyError::Damaged);
        let key = file.argon2id.key(passphrase, &decode(&file.salt)?)?;
        let nonce: [u8; 24] = decode(&file.nonce)?.try_into().map_err(|_| KeyError::Damaged)?;
        let sealed = decode(&file.xchacha20poly1305)?;
        let bound = bound(&info);
        let payload = Payload { msg: &sealed, aad: &bound };
        let cipher = XChaCha20Poly1305::new(&(*key).into());
        let secret = cipher.decrypt(&XNonce::from(nonce), payload);
        let secret = Zeroizing::new(secret.map_err(|_| KeyError::Passphrase)?);
        let bytes: [u8; 32] = secret.as_slice().try_into().map_err(|_| KeyError::Damaged)?;
        let secret = SecretKey::from_bytes(bytes);
        if secret.public(info.kind)? == info.public { Ok(secret) } else { Err(KeyError::Damaged) }
    }

    fn file(&self, name: &str) -> Result<PathBuf, KeyError> {
        if !is_name(name) {
            return Err(KeyError::Name);
        }
        Ok(self.path.join(format!("{name}.json")))
    }

    fn read(&self, name: &str) -> Result<(KeyInfo, KeyFile), KeyError> {
        let bytes = match fs::read(self.file(name)?) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(KeyError::NotFound(name.to_owned()));
            }
            Err(error) => return Err(KeyError::Io(error)),
        };
        let file: KeyFile = serde_json::from_slice(&bytes).map_err(|_| KeyError::Damaged)?;
        let public = BASE64.decode(&file.public).map_err(|_| KeyError::Damaged)?;
        if file.farthing_key != FORMAT || file.name != name {
            return Err(KeyError::Damaged);
        }
        Ok((KeyInfo { name: name.to_owned(), kind: file.kind, public }, file))
    }

    fn write(&self, path: &Path, file: &KeyFile) -> Result<(), KeyError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.path).map_err(KeyError::Io)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut out = match options.open(path) {
            Ok(out) => out,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(KeyError::Taken);
            }
            Err(error) => return Err(KeyError::Io(error)),
        };
        let json = serde_json::to_vec_pretty(file).map_err(|_| KeyError::Damaged)?;
        out.write_all(&json).and_then(|()| out.sync_all()).map_err(KeyError::Io)?;
        // The new name is only safe once the folder is.
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(KeyError::Io)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    farthing_key: u8,
    name: String,
    kind: KeyKind,
    public: String,
    argon2id: Cost,
    salt: String,
    nonce: String,
    xchacha20poly1305: String,
}

/// What a seal is bound to.
fn bound(info: &KeyInfo) -> Vec<u8> {
    let kind = match info.kind {
        KeyKind::Ed25519 => "ed25519",
        KeyKind::Secp256k1 => "secp256k1",
    };
    [b"farthing key v1/", kind.as_bytes(), b"/", info.name.as_bytes(), b"/", &info.public].concat()
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits)
}

fn as_base64<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(bytes))
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The name cannot be a file's.
    #[error("a key name is 1 to 64 characters of a-z, 0-9 and '-'")]
    Name,
    /// A key of this name exists.
    #[error("a key of this name exists; keys are never overwritten")]
    Taken,
    /// No key of this name exists.
    #[error("there is no key called {0}; `farthing wallet new` makes one")]
    NotFound(String),
    /// A key may not be stored without one.
    #[error("a key needs a passphrase; set FARTHING_PASSPHRASE or type one")]
    NoPassphrase,
    /// The passphrase is not the right one.
    #[error("the passphrase does not open this key")]
    Passphrase,
    /// The bytes are no key of its kind.
    #[error("these bytes are no key of this kind; every curve has a few such")]
    NotAKey,
    /// The file is not what was written.
    #[error("the key file is damaged")]
    Damaged,
    /// The system has no randomness to give.
    #[error("the system gives no randomness")]
    Randomness,
    /// The operating system says no.
    #[error("the key file cannot be read or written: {0}")]
    Io(#[source] std::io::Error),
}
