//! Addresses that something may be fetched from.

use std::fmt;

use ureq::http::Uri;

/// Where plain `http` may be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// Only with this very machine: nobody stands in between.
    Loopback,
    /// Anywhere, because the checksum of what comes is known beforehand.
    Anywhere,
}

/// An address with `https`, or with `http` where that is allowed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url(String);

/// Why an address is not taken. Completes "URL …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No address.
    #[error("is no address of the form https://HOST/PATH")]
    Form,
    /// Another protocol.
    #[error("is not https")]
    Scheme,
    /// `http` where anybody could change what comes.
    #[error("is not https; plain http is taken only together with a checksum in the inventory")]
    Plain,
    /// A password in it would stand in logs.
    #[error("holds a user name or password, which would be shown in messages")]
    Credentials,
}

impl Url {
    /// Checks an address.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn parse(text: &str, plain: Plain) -> Result<Self, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError::Form)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(UrlError::Form);
        };
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials);
        }
        match scheme {
            "https" => {}
            "http" if plain == Plain::Anywhere || is_loopback(authority.host()) => {}
            "http" => return Err(UrlError::Plain),
            _ => return Err(UrlError::Scheme),
        }
        Ok(Self(text.to_owned()))
    }

    /// Where an answer with `Location: to` sends us.
    ///
    /// # Errors
    /// Why we do not go there: a step down from `https` is never taken.
    pub fn redirected(&self, to: &str, plain: Plain) -> Result<Self, UrlError> {
        let plain = if self.0.starts_with("https:") {
            Plain::Loopback
        } else {
            plain
        };
        let next = if let Some(rest) = to.strip_prefix("//") {
            format!("{}://{rest}", self.scheme())
        } else if to.starts_with('/') {
            format!("{}{to}", self.origin())
        } else if to.contains("://") {
            to.to_owned()
        } else {
            let folder = self
                .0
                .rfind('/')
                .map_or(self.0.as_str(), |at| &self.0[..=at]);
            format!("{folder}{to}")
        };
        let next = Self::parse(&next, plain)?;
        if self.scheme() == "https" && next.scheme() != "https" {
            return Err(UrlError::Scheme);
        }
        Ok(next)
    }

    /// The address of a file beside this one.
    ///
    /// # Errors
    /// When this has no path.
    pub fn beside(&self, name: &str) -> Result<Self, UrlError> {
        let path = self.0.split(['?', '#']).next().unwrap_or("");
        let at = path.rfind('/').ok_or(UrlError::Form)?;
        if at < self.origin().len() {
            return Err(UrlError::Form);
        }
        Ok(Self(format!("{}/{name}", &path[..at])))
    }

    /// The last part of its path.
    #[must_use]
    pub fn file_name(&self) -> &str {
        let path = self.0.split(['?', '#']).next().unwrap_or("");
        path.get(self.origin().len()..)
            .and_then(|path| path.rsplit('/').next())
            .unwrap_or("")
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names this very machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.0
            .parse::<Uri>()
            .ok()
            .and_then(|uri| uri.host().map(is_loopback))
            .unwrap_or(false)
    }

    fn scheme(&self) -> &str {
        self.0.split(':').next().unwrap_or("")
    }

    fn origin(&self) -> &str {
        let start = self.0.find("://").map_or(0, |at| at + 3);
        let end = self.0[start..]
            .find(['/', '?', '#'])
            .map_or(self.0.len(), |at| start + at);
        &self.0[..end]
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn http_is_for_this_machine_or_for_known_checksums() {
        let read = |text: &str| Url::parse(text, Plain::Loopback);
        for good in [
            "https://github.com/k3s-io/k3s",
            "http://127.0.0.1:8080/x",
            "http://localhost/x",
            "http://[::1]:80/x",
        ] {
            assert!(read(good).is_ok(), "{good}");
        }
        assert_eq!(read("http://mirror.lan/x"), Err(UrlError::Plain));
        assert_eq!(read("http://127.0.0.1.evil.org/x"), Err(UrlError::Plain));
        assert_eq!(read("ftp://mirror.lan/x"), Err(UrlError::Scheme));
        assert_eq!(
            read("https://me:secret@mirror.lan/x"),
            Err(UrlError::Credentials)
        );
        for bad in ["", "mirror.lan/x", "/x", "https:///x", "https://a b/"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(Url::parse("http://mirror.lan/x", Plain::Anywhere).is_ok());
    }

    #[test]
    fn redirects_never_step_down_from_https() {
        let from = Url::parse("https://a.org/d/k3s", Plain::Loopback).unwrap();
        let to = |text: &str| {
            from.redirected(text, Plain::Anywhere)
                .map(|u| u.to_string())
        };
        assert_eq!(to("https://b.org/x").unwrap(), "https://b.org/x");
        assert_eq!(to("/x").unwrap(), "https://a.org/x");
        assert_eq!(to("//b.org/x").unwrap(), "https://b.org/x");
        assert_eq!(to("x").unwrap(), "https://a.org/d/x");
        for down in ["http://b.org/x", "http://127.0.0.1/x", "file:///etc/passwd"] {
            assert!(to(down).is_err(), "{down}");
        }
        // A mirror on this machine may not send us to a stranger without encryption.
        let local = Url::parse("http://127.0.0.1:1/k3s", Plain::Loopback).unwrap();
        assert!(local.redirected("http://b.org/x", Plain::Loopback).is_err());
        assert!(local.redirected("https://b.org/x", Plain::Loopback).is_ok());
    }

    #[test]
    fn names_are_taken_apart() {
        let url = Url::parse("https://a.org/d/k3s-arm64?raw=1", Plain::Loopback).unwrap();
        assert_eq!(url.file_name(), "k3s-arm64");
        assert_eq!(
            url.beside("sum.txt").unwrap().as_str(),
            "https://a.org/d/sum.txt"
        );
        let bare = Url::parse("https://a.org", Plain::Loopback).unwrap();
        assert_eq!(bare.file_name(), "");
        assert!(bare.beside("x").is_err());
    }
}
