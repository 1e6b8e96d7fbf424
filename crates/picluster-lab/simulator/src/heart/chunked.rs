//! Bodies in chunks (RFC 9112, section 7.1), piece by piece as they come.

use std::io::{Error, ErrorKind, Read, Result};

enum Next {
    Size,
    Data(usize),
    EndOfData,
    Nothing,
}

/// Takes the pieces out of a chunked body.
pub(crate) struct Chunked<R> {
    from: R,
    held: Vec<u8>,
    next: Next,
}

impl<R: Read> Chunked<R> {
    /// `held` was read from `from` already, together with the head.
    pub(crate) fn new(from: R, held: Vec<u8>) -> Self {
        Self {
            from,
            held,
            next: Next::Size,
        }
    }

    fn fill(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        let n = self.from.read(&mut buffer)?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.held.extend_from_slice(&buffer[..n]);
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.held.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim().to_owned());
            }
            if self.held.len() > 4096 {
                return Err(Error::new(ErrorKind::InvalidData, "no size of a chunk"));
            }
            self.fill()?;
        }
    }

    /// The next piece; none when the body has ended as it should.
    ///
    /// # Errors
    ///
    /// When it breaks off, or is not in chunks.
    pub(crate) fn piece(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            match self.next {
                Next::Nothing => return Ok(None),
                Next::EndOfData => {
                    self.line()?;
                    self.next = Next::Size;
                }
                Next::Size => {
                    let line = self.line()?;
                    let digits = line.split(';').next().unwrap_or_default().trim();
                    let size = usize::from_str_radix(digits, 16)
                        .map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
                    if size > 0 {
                        self.next = Next::Data(size);
                        continue;
                    }
                    while !self.line()?.is_empty() {}
                    self.next = Next::Nothing;
                }
                Next::Data(left) => {
                    if self.held.is_empty() {
                        self.fill()?;
                    }
                    let taken = left.min(self.held.len());
                    self.next = match left - taken {
                        0 => Next::EndOfData,
                        left => Next::Data(left),
                    };
                    return Ok(Some(self.held.drain(..taken).collect()));
                }
            }
        }
    }

    /// All that is left.
    pub(crate) fn whole(mut self) -> Result<Vec<u8>> {
        let mut all = vec![];
        while let Some(piece) = self.piece()? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, as a slow connection does.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            let n = self.0.len().min(1);
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn pieces_come_as_they_were_sent() {
        let mut body = Chunked::new(
            &b"lo\r\n6;x=y\r\n world\r\n0\r\n\r\n"[..],
            b"5\r\nhel".to_vec(),
        );
        let mut pieces = vec![];
        while let Some(piece) = body.piece().unwrap() {
            pieces.push(String::from_utf8(piece).unwrap());
        }
        assert_eq!(pieces, ["hel", "lo", " world"]);
        let slow = Chunked::new(Slow(b"5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"), vec![]);
        assert_eq!(slow.whole().unwrap(), b"hello");
    }

    #[test]
    fn a_body_that_breaks_off_is_no_whole_body() {
        for broken in [
            &b"5\r\nhel"[..],
            b"5\r\nhello\r\n",
            b"5\r\nhello\r\n0\r\n",
            b"x\r\n",
        ] {
            assert!(Chunked::new(broken, vec![]).whole().is_err());
        }
    }
}
