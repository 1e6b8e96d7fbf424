//! Why something was not done, in upstream's words.

use std::fmt;

/// A text that ends a command; printed by whoever gives up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) String);

/// What commands return.
pub(crate) type Outcome<T = ()> = Result<T, Fault>;

impl Fault {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// `context: text`, as Go wraps errors.
    pub(crate) fn within(self, context: impl fmt::Display) -> Self {
        Self(format!("{context}: {}", self.0))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An error of the system in Go's lower-case words.
pub(crate) fn errno(error: &std::io::Error) -> String {
    use std::io::ErrorKind as K;
    match error.kind() {
        K::ConnectionRefused => "connection refused".into(),
        K::ConnectionReset => "connection reset by peer".into(),
        K::HostUnreachable => "no route to host".into(),
        K::NetworkUnreachable => "network is unreachable".into(),
        K::NotFound => "no such file or directory".into(),
        K::PermissionDenied => "permission denied".into(),
        K::AddrInUse => "address already in use".into(),
        K::TimedOut | K::WouldBlock => "i/o timeout".into(),
        K::UnexpectedEof => "EOF".into(),
        K::ReadOnlyFilesystem => "read-only file system".into(),
        K::StorageFull => "no space left on device".into(),
        _ => error.to_string(),
    }
}

/// `open /path: no such file or directory`.
pub(crate) fn at(verb: &str, path: &std::path::Path, error: &std::io::Error) -> Fault {
    Fault(format!("{verb} {}: {}", path.display(), errno(error)))
}
