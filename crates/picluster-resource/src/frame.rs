//! Length-framed output of a node.
//!
//! A frame is a header line `@<id> <status> <length>` and exactly `length` bytes. Nothing is ever
//! searched for inside the bytes, so a file may hold any text, a header line too.

/// One framed answer of a node-side program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the sender called it: a number inside a program.
    pub id: u32,
    /// Exit status of what produced the bytes.
    pub status: u32,
    /// The bytes, lossless except that a shell variable cannot hold NUL.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// The bytes as text; invalid UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A stream that is not made of frames: what stood where a header was expected (at most 200
/// bytes of it).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a frame header, the node sent {0:?}")]
pub struct FrameError(pub String);

/// Takes frames off the front of a growing buffer.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
}

impl FrameReader {
    /// Adds bytes as they arrive.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that do not yet make a frame.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.buffer
    }

    /// The next whole frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`] when the stream is not made of frames.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(eol) = self.buffer.iter().position(|b| *b == b'\n') else {
            return if self.buffer.len() > 200 || self.buffer.first().is_some_and(|b| *b != b'@') {
                Err(self.garbage())
            } else {
                Ok(None)
            };
        };
        let header = String::from_utf8_lossy(&self.buffer[..eol]).into_owned();
        let parsed = header.strip_prefix('@').and_then(|rest| {
            let mut parts = rest.split(' ');
            let id = parts.next()?.parse().ok()?;
            let status = parts.next()?.parse().ok()?;
            let length: usize = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some((id, status, length))
        });
        let Some((id, status, length)) = parsed else {
            return Err(self.garbage());
        };
        let end = eol + 1 + length;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let bytes = self.buffer[eol + 1..end].to_vec();
        self.buffer.drain(..end);
        Ok(Some(Frame { id, status, bytes }))
    }

    fn garbage(&self) -> FrameError {
        let cut = self.buffer.len().min(200);
        FrameError(String::from_utf8_lossy(&self.buffer[..cut]).into_owned())
    }
}

/// Shell functions every program may use. Both run CMD without input, and print what it says on
/// stdout as one frame; its text is left in `$fo`. `${#fo}` counts bytes because programs run with
/// `LC_ALL=C`.
///
/// - `frame ID CMD…`: to the byte. The trap keeps the newlines at the end, which `$(…)` strips, and
///   the status also of a function that exits; a function costs one process.
/// - `rows ID CMD…`: without the newlines at the end, for tools whose answer is lines; costs one
///   process with the tool itself.
/// - `emit`: prints `$fo` with status `$fs` as frame `$fi`.
pub const FRAME_SH: &str = r#"emit() { printf '@%s %s %s\n%s' "$fi" "$fs" "${#fo}" "$fo"; }
frame() { fi=$1; shift; fo=$(trap 'printf x%s "$?"' 0; "$@" </dev/null 2>/dev/null); fs=${fo##*x}; fo=${fo%x*}; emit; }
rows() { fi=$1; shift; fo=$("$@" </dev/null 2>/dev/null); fs=$?; emit; }
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let stream = b"@1 0 5\nhello@2 1 0\n@3 0 9\n@4 0 1\nx\n";
        for cut in 0..stream.len() {
            let mut reader = FrameReader::default();
            let mut frames = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                reader.push(part);
                while let Ok(Some(frame)) = reader.next_frame() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames.len(), 3, "cut at {cut}");
            assert_eq!(frames[2].bytes, b"@4 0 1\nx\n");
        }
    }
}
