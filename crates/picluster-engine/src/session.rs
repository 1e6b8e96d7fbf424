//! One session with the agent of a node: a message goes out, its frames come back.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use picluster_model::NodeName;
use picluster_model::secret::Secret;
use picluster_resource::frame::FrameReader;
use picluster_resource::shell::quote;
use picluster_resource::{Frame, Payload};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};

use crate::agent::{self, Hello};
use crate::counters::Tally;
use crate::host::{Exit, Session};

/// How much of stderr is kept.
const STDERR_TAIL: usize = 4096;
/// How much a login shell's start-up files may print before the agent begins.
const NOISE_LIMIT: usize = 65_536;
/// How long a closed session may take to say how it ended.
const EXIT_WAIT: Duration = Duration::from_secs(2);

/// What is sent to the agent in one go, to be answered in one go.
#[derive(Default)]
pub(crate) struct Message {
    /// Shell text for the agent's own shell. May hold what a file of several will hold.
    pub script: String,
    /// What its operation reads.
    pub payload: Payload,
}

impl Message {
    pub(crate) fn script(script: String) -> Self {
        Self {
            script,
            payload: Payload::None,
        }
    }
}

/// Why a message was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AskError {
    /// The session is over.
    Ended {
        /// How, as far as it is known.
        exit: Exit,
        /// Its last words.
        stderr: String,
    },
    /// The agent gave up, in its own words.
    GaveUp(String),
    /// What came is not made of frames.
    Garbage(String),
}

/// The end of what a program wrote to stderr, and a bell that rings when there is more.
#[derive(Debug, Default)]
struct Tail {
    bytes: Mutex<Vec<u8>>,
    bell: Notify,
    forward: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
}

impl Tail {
    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn collect(self: Arc<Self>, mut stderr: Box<dyn AsyncRead + Send + Unpin>) {
        let mut buffer = vec![0; 1024];
        while let Ok(n @ 1..) = stderr.read(&mut buffer).await {
            {
                let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.extend_from_slice(&buffer[..n]);
                let surplus = bytes.len().saturating_sub(STDERR_TAIL);
                bytes.drain(..surplus);
            }
            self.bell.notify_one();
            let forward = self
                .forward
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            if let Some(forward) = forward {
                let _ = forward.send(buffer[..n].to_vec()).await;
            }
        }
        self.forward
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

/// A program that took the agent's place.
pub(crate) struct Streaming {
    /// Output that was read already.
    pub rest: Vec<u8>,
    /// Further output.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Chunks of stderr.
    pub stderr: mpsc::Receiver<Vec<u8>>,
    /// How it ends.
    pub exit: tokio::sync::oneshot::Receiver<Exit>,
    /// Its input; keep it until the program ends: sudo's relay takes end of input for a reason to
    /// hurry.
    pub stdin: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
}

/// A running agent.
pub(crate) struct Agent {
    node: NodeName,
    tally: Arc<Tally>,
    stdin: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
    frames: Frames,
    stderr: Arc<Tail>,
    collector: tokio::task::JoinHandle<()>,
    exit: tokio::sync::oneshot::Receiver<Exit>,
    /// The newest hello.
    pub hello: Option<Hello>,
    /// One agent said hello behind another: root's behind the login user's.
    pub raised: bool,
}

/// The frames of a session, behind whatever a login shell printed first.
struct Frames {
    stdout: Box<dyn AsyncRead + Send + Unpin>,
    reader: FrameReader,
    noise: Option<Vec<u8>>,
    buffer: Vec<u8>,
    read: u64,
}

impl Frames {
    /// The next frame; `None` at the end of output.
    async fn next(&mut self) -> Result<Option<Frame>, String> {
        loop {
            if self.noise.is_none()
                && let Some(frame) = self.reader.next_frame().map_err(|e| e.to_string())?
            {
                return Ok(Some(frame));
            }
            let n = match self.stdout.read(&mut self.buffer).await {
                Ok(0) | Err(_) => {
                    return match &self.noise {
                        Some(noise) if !noise.is_empty() => {
                            Err(String::from_utf8_lossy(tail(noise, 200)).into_owned())
                        }
                        _ => Ok(None),
                    };
                }
                Ok(n) => n,
            };
            self.read += n as u64;
            let Some(noise) = &mut self.noise else {
                self.reader.push(&self.buffer[..n]);
                continue;
            };
            noise.extend_from_slice(&self.buffer[..n]);
            if let Some(at) = hello_at(noise) {
                self.reader.push(&noise[at..]);
                self.noise = None;
            } else if noise.len() > NOISE_LIMIT {
                return Err(String::from_utf8_lossy(&noise[..200]).into_owned());
            }
        }
    }
}

fn tail(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[bytes.len().saturating_sub(most)..]
}

/// Where the hello's header starts. Matched together with the beginning of its text, so that it
/// stands out from what start-up files may print, also in the middle of a line.
fn hello_at(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = find(&bytes[from..], b"@0 0 ").map(|at| from + at) {
        let rest = &bytes[at + 5..];
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits > 0 && rest[digits..].starts_with(b"\npicluster ") {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// How sudo with a password ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SudoError {
    /// It asked a second time, or said so.
    WrongPassword,
    /// It asked and there is no password to give.
    NoPassword,
    /// It ended.
    Ask(AskError),
}

impl Agent {
    /// Takes over a session in which [`agent::command`] was started.
    pub(crate) fn new(node: NodeName, session: Session, tally: Arc<Tally>) -> Self {
        let stderr = Arc::new(Tail::default());
        let collector = tokio::spawn(Arc::clone(&stderr).collect(session.stderr));
        Self {
            node,
            tally,
            stdin: session.stdin,
            frames: Frames {
                stdout: session.stdout,
                reader: FrameReader::default(),
                noise: Some(Vec::new()),
                buffer: vec![0; 16_384],
                read: 0,
            },
            stderr,
            collector,
            exit: session.exit,
            hello: None,
            raised: false,
        }
    }

    /// Sends a line (if any) and a message in one go, and returns the frames of the answer.
    ///
    /// Not safe to give up half-way: an agent whose answer was not awaited must be dropped.
    pub(crate) async fn ask(
        &mut self,
        first: Option<&str>,
        message: &Message,
    ) -> Result<Vec<Frame>, AskError> {
        let payload: &[u8] = match &message.payload {
            Payload::None => &[],
            Payload::Bytes(bytes) => bytes.reveal(),
        };
        // `$(…)` would take newlines at its end.
        let script = message.script.trim_end_matches('\n');
        let mut head = first.unwrap_or("").to_owned();
        head.push_str(&agent::header(script.len(), payload.len()));
        let script = if payload.is_empty() {
            head.push_str(script);
            ""
        } else {
            script
        };
        let sent = (head.len() + payload.len() + script.len()) as u64;
        let before = self.frames.read;
        let (stdin, frames) = (&mut self.stdin, &mut self.frames);
        let (hello, raised) = (&mut self.hello, &mut self.raised);
        let answered = {
            // Both at once: an agent that gives up in the middle of a payload has to be heard.
            let mut write = pin!(async {
                for part in [head.as_bytes(), payload, script.as_bytes()] {
                    stdin.write_all(part).await?;
                }
                stdin.flush().await
            });
            let mut read = pin!(answer(frames, hello, raised));
            let mut written = false;
            loop {
                tokio::select! {
                    biased;
                    answer = &mut read => break answer,
                    // A failed write shows as the end of output, with the reason on stderr.
                    _ = &mut write, if !written => written = true,
                }
            }
        };
        let received = self.frames.read - before;
        self.tally.count(&self.node, |c| {
            c.round_trips += 1;
            c.bytes_out += sent;
            c.bytes_in += received;
        });
        match answered {
            Ok(Some(frames)) => Ok(frames),
            Ok(None) => Err(self.ended().await),
            Err(e) => Err(e),
        }
    }

    /// Turns a login user's agent into root's where sudo wants a password.
    pub(crate) async fn sudo(
        &mut self,
        password: Option<&Secret<String>>,
    ) -> Result<(), SudoError> {
        let line = agent::become_root_with_password();
        if self.hello.is_none() {
            // The login user's agent speaks first; its hello must not be taken for root's.
            match self.frames.next().await {
                Ok(Some(frame)) => self.hello = Hello::parse(&frame.text()),
                Ok(None) => return Err(SudoError::Ask(self.ended().await)),
                Err(what) => return Err(SudoError::Ask(AskError::Garbage(what))),
            }
        }
        self.send(line.as_bytes()).await;
        let mut asked = false;
        loop {
            let stderr = Arc::clone(&self.stderr);
            tokio::select! {
                biased;
                frame = self.frames.next() => match frame {
                    Ok(Some(frame)) if frame.id == agent::HELLO => {
                        let Some(hello) = Hello::parse(&frame.text()) else {
                            return Err(SudoError::Ask(AskError::Garbage(frame.text())));
                        };
                        self.send(format!("{}\n", hello.text).as_bytes()).await;
                        self.hello = Some(hello);
                        self.tally.count(&self.node, |c| {
                            c.round_trips += if asked { 2 } else { 1 };
                            c.bytes_out += line.len() as u64;
                        });
                        return Ok(());
                    }
                    Ok(None) => {
                        let end = self.ended().await;
                        // Some versions give up at once after a wrong password.
                        let wrong = asked && matches!(&end, AskError::Ended { stderr, .. } if refused(stderr));
                        return Err(if wrong { SudoError::WrongPassword } else { SudoError::Ask(end) });
                    }
                    Ok(Some(frame)) => return Err(SudoError::Ask(AskError::Garbage(frame.text()))),
                    Err(what) => return Err(SudoError::Ask(AskError::Garbage(what))),
                },
                () = stderr.bell.notified() => {
                    let text = stderr.text();
                    let prompts = text.matches(agent::SUDO_PROMPT).count();
                    if asked && (prompts > 1 || refused(&text)) {
                        return Err(SudoError::WrongPassword);
                    }
                    if prompts > 0 && !asked {
                        asked = true;
                        let Some(password) = password else {
                            return Err(SudoError::NoPassword);
                        };
                        self.send(password.reveal().as_bytes()).await;
                        self.send(b"\n").await;
                    }
                }
            }
        }
    }

    /// What was said on stderr so far is no reason for what happens from now on: a sudo that was
    /// only tried, and wants a password.
    pub(crate) fn forget_stderr(&self) {
        self.stderr
            .bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// A write that fails shows as the end of output.
    async fn send(&mut self, bytes: &[u8]) {
        if self.stdin.write_all(bytes).await.is_ok() {
            let _ = self.stdin.flush().await;
        }
    }

    /// Ends the agent: it sees end of input at its next step boundary. The answer to how it went
    /// is not awaited for long.
    pub(crate) async fn finish(mut self) {
        let _ = self.stdin.shutdown().await;
        let _ = tokio::time::timeout(EXIT_WAIT, &mut self.exit).await;
    }

    /// Replaces the agent by a command line without input and hands its streams over.
    pub(crate) async fn become_program(self, command: &str) -> Streaming {
        self.become_sh(command, " </dev/null").await
    }

    /// The same for a program that is fed. It has to speak before anything is sent to it.
    pub(crate) async fn become_fed_program(self, command: &str) -> Streaming {
        self.become_sh(command, "").await
    }

    async fn become_sh(mut self, command: &str, input: &str) -> Streaming {
        // Sent as a message, because a command line may hold newlines.
        let script = format!("exec /bin/sh -c {}{input}", quote(command));
        let line = format!("{}{script}", agent::header(script.len(), 0));
        self.tally
            .count(&self.node, |c| c.bytes_out += line.len() as u64);
        let (tx, stderr) = mpsc::channel(16);
        *self
            .stderr
            .forward
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(tx);
        self.send(line.as_bytes()).await;
        Streaming {
            rest: self.frames.reader.rest().to_vec(),
            stdout: self.frames.stdout,
            stderr,
            exit: self.exit,
            stdin: self.stdin,
        }
    }

    async fn ended(&mut self) -> AskError {
        let exit = match tokio::time::timeout(EXIT_WAIT, &mut self.exit).await {
            Ok(Ok(exit)) => exit,
            Ok(Err(_)) | Err(_) => Exit::Lost,
        };
        // Its last words may still be under way.
        let _ = tokio::time::timeout(EXIT_WAIT, &mut self.collector).await;
        AskError::Ended {
            exit,
            stderr: self.stderr.text().replace(agent::SUDO_PROMPT, ""),
        }
    }
}

/// Reads the frames of one answer; `None` when the output ends before it is complete.
async fn answer(
    frames: &mut Frames,
    hello: &mut Option<Hello>,
    raised: &mut bool,
) -> Result<Option<Vec<Frame>>, AskError> {
    let mut answer = Vec::new();
    loop {
        let Some(frame) = frames.next().await.map_err(AskError::Garbage)? else {
            return Ok(None);
        };
        match frame.id {
            agent::HELLO => {
                *raised = hello.is_some();
                *hello = Hello::parse(&frame.text());
            }
            agent::ERROR => return Err(AskError::GaveUp(frame.text())),
            agent::DONE => return Ok(Some(answer)),
            _ => answer.push(frame),
        }
    }
}

/// sudo's words for a password it did not take (we speak to it in `LC_ALL=C`).
fn refused(stderr: &str) -> bool {
    let text = stderr.to_ascii_lowercase();
    [
        "try again",
        "incorrect password",
        "authentication failed",
        "incorrect authentication",
    ]
    .iter()
    .any(|words| text.contains(words))
}
