//! Errors for people: what happened, why, and how to mend it, with an exit code.

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::Path,
};

use certs::tls::ConnectError;
use tonic::{Code, Status};

use crate::{exit_codes, output::clean};

/// What ends a command. `what` is a sentence without a full stop; `hint` says how to mend it.
#[derive(Debug)]
pub struct CliError {
    pub what: String,
    pub hint: Option<String>,
    /// The server's stable word for it, for programs.
    pub server_code: Option<String>,
    pub exit_code: u8,
}

/// Of a file that is read whole: more than any coordinator takes.
const TEXT_BYTES_MAX: u64 = 8 << 20;

pub type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    pub fn new(exit_code: u8, what: impl Into<String>) -> CliError {
        CliError {
            what: what.into(),
            hint: None,
            server_code: None,
            exit_code,
        }
    }

    pub fn invalid(what: impl Into<String>) -> CliError {
        CliError::new(exit_codes::INVALID, what)
    }

    /// The server refuses this operator's certificate.
    pub fn denied(why: impl Into<String>) -> CliError {
        CliError::new(exit_codes::DENIED, why).with_hint(
            "look at the certificate in your identity folder; `cordon operator issue` makes a new one",
        )
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> CliError {
        self.hint = Some(hint.into());
        self
    }

    /// A local file that could not be read or written.
    pub fn file(verb: &str, path: &Path, error: &io::Error) -> CliError {
        let what = format!("cannot {verb} {}: {error}", path.display());
        let error_kind = error.kind();
        let cannot = CliError::new(exit_codes::INVALID, what);
        match error_kind {
            io::ErrorKind::NotFound => cannot.with_hint("check the path, and that its folder is there"),
            io::ErrorKind::PermissionDenied => {
                cannot.with_hint("check the owner and the mode: `ls -l` shows them")
            }
            io::ErrorKind::InvalidData => cannot.with_hint("save the file as UTF-8 text"),
            io::ErrorKind::IsADirectory => cannot.with_hint("name a file, not a folder"),
            _ => cannot,
        }
    }

    /// The text of a local file that is a part of a command, and so is of bounded size.
    pub fn read(verb: &str, path: &Path) -> Result<String> {
        let mut text = String::new();
        let file =
            fs::File::open(path).and_then(|file| file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text));
        match file {
            Ok(_) if text.len() as u64 > TEXT_BYTES_MAX => {
                let what = format!(
                    "cannot {verb} {}: it is longer than {TEXT_BYTES_MAX} bytes",
                    path.display()
                );
                Err(CliError::invalid(what).with_hint("name the file that is meant"))
            }
            Ok(_) => Ok(text),
            Err(error) => Err(CliError::file(verb, path, &error)),
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text can hold what a server or an agent said.
        write!(f, "error: {}", clean_lines(&self.what))?;
        if let Some(code) = &self.server_code {
            write!(f, "\n  code: {}", clean(code))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  help: {}", clean_lines(hint))?;
        }
        Ok(())
    }
}

/// What a coordinator answered, in the terms of the exit codes.
impl From<Status> for CliError {
    fn from(status: Status) -> CliError {
        // A certificate that the server refuses shows up here, on the first call of a connection.
        if let Some(explained) = certs::tls::explain(&status) {
            return CliError::denied(explained);
        }
        // A status with a cause was made on this side: no coordinator said it, the connection broke.
        if let Some(cause) = last_cause(&status) {
            return CliError::new(exit_codes::CONNECTION, format!("the connection broke: {cause}"));
        }
        let exit_code = match status.code() {
            Code::Ok => exit_codes::OK,
            Code::NotFound => exit_codes::NOT_FOUND,
            Code::Unavailable | Code::DeadlineExceeded => exit_codes::CONNECTION,
            Code::PermissionDenied | Code::Unauthenticated => exit_codes::DENIED,
            Code::FailedPrecondition | Code::Aborted | Code::AlreadyExists | Code::ResourceExhausted => {
                exit_codes::REFUSED
            }
            Code::InvalidArgument | Code::OutOfRange => exit_codes::INVALID,
            Code::Cancelled | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
                exit_codes::INTERNAL
            }
        };
        let text = |key: &str| {
            let value = status.metadata().get(key)?;
            Some(value.to_str().ok()?.to_owned())
        };
        let what = match status.message() {
            "" => format!("the coordinator answered {:?} and no more", status.code()),
            message => message.to_owned(),
        };
        CliError {
            what,
            hint: text("cordon-hint"),
            server_code: text("cordon-code"),
            exit_code,
        }
    }
}

impl From<ConnectError> for CliError {
    fn from(error: ConnectError) -> CliError {
        let exit_code = match error {
            ConnectError::Endpoint(_) => exit_codes::INVALID,
            _ => exit_codes::CONNECTION,
        };
        CliError::new(exit_code, error.to_string())
    }
}

impl From<certs::init::InitError> for CliError {
    fn from(error: certs::init::InitError) -> CliError {
        use certs::init::InitError;
        let exit_code = match error {
            InitError::NotEmpty { .. } | InitError::NotAFolder { .. } | InitError::FolderThere { .. } => {
                exit_codes::REFUSED
            }
            InitError::NoSuchMember { .. } => exit_codes::NOT_FOUND,
            _ => exit_codes::INVALID,
        };
        let hint = match error {
            InitError::File(_) => Some("name the folder that `cordon init` made, as the user who owns it"),
            _ => None,
        };
        let error = CliError::new(exit_code, error.to_string());
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// What lies at the bottom of an error, which is what says most.
fn last_cause(error: &dyn std::error::Error) -> Option<String> {
    let mut cause = error.source()?;
    // Bounded, although causes have no loops.
    for _ in 0..16 {
        match cause.source() {
            Some(next) => cause = next,
            None => break,
        }
    }
    Some(cause.to_string())
}

/// Escapes all but the line breaks, which our own messages and a compiler's problems have.
fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}
