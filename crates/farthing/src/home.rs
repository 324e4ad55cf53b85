//! The folder where a wallet lives: its configuration, its keys, its book and its memory.

use std::path::{Path, PathBuf};

use farthing_keys::{Cost, KeyError, KeyFolder};
use farthing_wallet::WalletConfig;

use crate::failure::{Exit, Failure};

/// `$FARTHING_HOME`, or else `~/.farthing`.
pub(crate) struct Home(PathBuf);

impl Home {
    pub(crate) fn find() -> Result<Self, Failure> {
        let home = std::env::var_os("FARTHING_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(std::env::home_dir()?.join(".farthing")));
        home.map(Self).ok_or_else(|| Failure::usage("set FARTHING_HOME; there is no home folder"))
    }

    /// The folder itself, which paths in its files begin at.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    pub(crate) fn keys(&self) -> KeyFolder {
        KeyFolder::new(&self.0.join("keys"), Cost::STRONG)
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.0.join("wallet.toml")
    }

    pub(crate) fn policy_path(&self) -> PathBuf {
        self.0.join("policy.toml")
    }

    /// Where the daemon listens, if nothing else is said.
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("wallet.sock")
    }

    /// Where the daemon writes down at which address the owner's page is.
    pub(crate) fn page(&self) -> PathBuf {
        self.0.join("page.url")
    }

    /// The certificate of the proxy's authority, for programs to be told of.
    pub(crate) fn authority(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    pub(crate) fn book(&self) -> PathBuf {
        self.0.join("book.db")
    }

    /// What an account on a chain has signed last, for every process that shares it.
    pub(crate) fn nonces(&self, chain_id: u64, account: &str) -> PathBuf {
        self.0.join(format!("evm-{chain_id}-{account}.nonce"))
    }

    pub(crate) fn memory(&self) -> PathBuf {
        self.0.join("memory.db")
    }

    pub(crate) fn config(&self) -> Result<WalletConfig, Failure> {
        let path = self.config_path();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let what = format!(
                    "there is no wallet in {}; `farthing wallet new` makes one",
                    self.0.display()
                );
                return Err(Failure::usage(what));
            }
            Err(error) => {
                return Err(Failure::usage(format_args!("{}: {error}", path.display())));
            }
        };
        WalletConfig::parse(&text)
            .map_err(|error| Failure::usage(format_args!("{}: {error}", path.display())))
    }
}

/// The passphrase of the wallet's keys: `$FARTHING_PASSPHRASE`, or typed.
pub(crate) fn passphrase(prompt: &str) -> Result<zeroize::Zeroizing<String>, Failure> {
    if let Ok(passphrase) = std::env::var("FARTHING_PASSPHRASE") {
        return Ok(passphrase.into());
    }
    let typed = rpassword::prompt_password(prompt);
    typed.map(Into::into).map_err(|_| {
        Failure::new(Exit::Key, "set FARTHING_PASSPHRASE; there is no terminal to type it at")
    })
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(Exit::Key, error)
    }
}
