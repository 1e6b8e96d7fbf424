//! Errors of the system and of russh, in words a person understands.

use std::io;
use std::time::Duration;

/// What an I/O error means to someone who looks at a rack.
pub(crate) fn io(error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => "connection refused".into(),
        Kind::HostUnreachable => "no route to host".into(),
        Kind::NetworkUnreachable => "network unreachable".into(),
        Kind::ConnectionReset => "connection reset by the other side".into(),
        Kind::UnexpectedEof => "the other side closed the connection".into(),
        Kind::BrokenPipe | Kind::ConnectionAborted => "the connection broke".into(),
        Kind::PermissionDenied => "permission denied (a firewall on this machine?)".into(),
        // Ours carry a sentence, the system's do not.
        Kind::TimedOut if error.get_ref().is_none() => "timed out".into(),
        _ => error.to_string(),
    }
}

/// What an error of the SSH protocol means.
pub(crate) fn ssh(error: &russh::Error) -> String {
    use russh::Error as E;
    match error {
        E::IO(error) => io(error),
        E::HUP | E::Disconnect => "the other side closed the connection".into(),
        E::KeepaliveTimeout => "no sign of life from the other side".into(),
        E::ConnectionTimeout | E::InactivityTimeout | E::Elapsed(_) => "timed out".into(),
        E::Version => "the port answers, but not with SSH 2.0".into(),
        E::NoCommonAlgo { kind, theirs, .. } => no_common(kind, theirs),
        E::WrongServerSig => "the host key's signature is wrong".into(),
        E::PacketAuth | E::DecryptionError => "a packet was damaged on the way".into(),
        E::SendError | E::RecvError => "the connection is closed".into(),
        other => other.to_string(),
    }
}

fn no_common(kind: &russh::AlgorithmKind, theirs: &[String]) -> String {
    let theirs = theirs.join(", ");
    match kind {
        russh::AlgorithmKind::Key
            if !cfg!(feature = "rsa") && theirs.contains("rsa") && !theirs.contains("ed25519") =>
        {
            format!(
                "it has only RSA host keys ({theirs}), which this build does not check; make an \
                 ed25519 one there with `ssh-keygen -A`, or build with the feature `rsa`"
            )
        }
        russh::AlgorithmKind::Key => format!("no host key algorithm in common; it offers {theirs}"),
        russh::AlgorithmKind::Kex => format!("no key exchange in common; it offers {theirs}"),
        russh::AlgorithmKind::Cipher => format!("no cipher in common; it offers {theirs}"),
        russh::AlgorithmKind::Mac => format!("no MAC in common; it offers {theirs}"),
        russh::AlgorithmKind::Compression => {
            format!("no compression in common; it offers {theirs}")
        }
    }
}

/// Why the other side would not open a channel.
pub(crate) fn channel(reason: &russh::ChannelOpenFailure) -> String {
    use russh::ChannelOpenFailure as F;
    match reason {
        F::AdministrativelyProhibited => "its sshd does not allow it".into(),
        F::ConnectFailed => "connect failed".into(),
        F::UnknownChannelType => "its sshd does not know the request".into(),
        F::ResourceShortage => "it is short of resources".into(),
        F::Other { reason, code } if reason.is_empty() => format!("code {code}"),
        F::Other { reason, .. } => reason.clone(),
    }
}

/// `10 s`, `0.3 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}
