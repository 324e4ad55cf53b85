//! How commands end.

use std::fmt;
use std::process::ExitCode;

/// What a script can tell from the exit code. Documented in `docs/wallet.md`; numbers never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something else went wrong; nothing was paid.
    Other = 1,
    /// The command line or a configuration file says something impossible; nothing was paid.
    Usage = 2,
    /// The owner's rules allow none of the offers; nothing was paid.
    Rules = 3,
    /// The seller did not take the payment. Its price is held until the credential expires.
    Refused = 4,
    /// Nobody knows whether the seller took the payment. The same command again does not pay twice.
    Unknown = 5,
    /// The seller answered with an error, paid or not.
    Answer = 6,
    /// The seller cannot be reached; nothing was paid.
    Unreachable = 7,
    /// The key or its passphrase does not work; nothing was paid.
    Key = 8,
    /// The payment waits for approval; nothing was paid. The same command again finds the answer.
    Waiting = 9,
}

/// A command that did not do what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

pub(crate) type Done = Result<(), Failure>;

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl fmt::Display) -> Self {
        Self { exit, what: what.to_string() }
    }

    /// A failure for which any code but zero will do.
    pub(crate) fn other(what: impl fmt::Display) -> Self {
        Self::new(Exit::Other, what)
    }

    pub(crate) fn usage(what: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Says what is wrong and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.what.is_empty() {
            eprintln!("farthing: {}", self.what);
        }
        let code = match self.exit {
            Exit::Other => 1,
            Exit::Usage => 2,
            Exit::Rules => 3,
            Exit::Refused => 4,
            Exit::Unknown => 5,
            Exit::Answer => 6,
            Exit::Unreachable => 7,
            Exit::Key => 8,
            Exit::Waiting => 9,
        };
        ExitCode::from(code)
    }
}
