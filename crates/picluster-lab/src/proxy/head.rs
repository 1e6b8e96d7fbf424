//! Heads of HTTP/1.1 messages.

use std::io::{self, BufRead, Read};

/// Longest head accepted, in bytes.
const LIMIT: u64 = 64 * 1024;

/// First line and header fields, names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub line: String,
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// Reads one; `None` at the end of input.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Option<Head>> {
        let mut head = Head::default();
        let mut limited = from.take(LIMIT);
        loop {
            let mut line = String::new();
            if limited.read_line(&mut line)? == 0 {
                if head.line.is_empty() {
                    return Ok(None);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            match (line.is_empty(), head.line.is_empty()) {
                // Stray empty lines before a request are to be ignored (RFC 9112, 2.2).
                (true, true) => {}
                (true, false) => return Ok(Some(head)),
                (false, true) => head.line = line.to_owned(),
                (false, false) => {
                    if let Some((name, value)) = line.split_once(':') {
                        head.fields
                            .push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
                    }
                }
            }
        }
    }

    /// A field's value; `name` in lower case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}
