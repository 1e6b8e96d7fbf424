//! Ad hoc commands: output goes to people as it comes.

use picluster_resource::facts::RootAccess;
use picluster_resource::shell::quote;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::error::NodeError;
use crate::host::Exit;
use crate::link::Link;
use crate::run::{Access, Line, Stream};

/// A line longer than this is handed out in pieces.
const LONGEST: usize = 64 * 1024;

/// Runs a command line.
pub(crate) async fn exec(
    link: &mut Link,
    access: &Access,
    command: &str,
    as_root: bool,
    sink: &mut (dyn FnMut(Line) + Send),
) -> Result<Exit, NodeError> {
    let line = match (as_root, access.root) {
        (true, RootAccess::Sudo) => format!("exec sudo -n -- /bin/sh -c {}", quote(command)),
        (true, RootAccess::SudoPassword) => {
            let agent = link.separate_root(access).await?;
            let program = agent.become_program(command).await;
            let exit = pump(
                program.rest,
                program.stdout,
                Err(program.stderr),
                sink,
                program.exit,
            );
            let exit = exit.await;
            drop(program.stdin);
            return Ok(exit);
        }
        (true, RootAccess::None) => {
            return Err(NodeError::NoRoot {
                node: link.name().clone(),
                why: "the login user cannot become root: no sudo, or not allowed to use it".into(),
            });
        }
        // The login shell gets it as typed, as `ssh node CMD` would.
        (false, _) | (true, RootAccess::IsRoot) => command.to_owned(),
    };
    let mut session = link.start(&line).await?;
    let _ = session.stdin.shutdown().await;
    let exit = pump(
        Vec::new(),
        session.stdout,
        Ok(session.stderr),
        sink,
        session.exit,
    );
    Ok(exit.await)
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// Cuts both streams into lines until both have ended.
async fn pump(
    rest: Vec<u8>,
    stdout: Reader,
    stderr: Result<Reader, mpsc::Receiver<Vec<u8>>>,
    sink: &mut (dyn FnMut(Line) + Send),
    exit: tokio::sync::oneshot::Receiver<Exit>,
) -> Exit {
    let (tx, mut chunks) = mpsc::channel::<(Stream, Vec<u8>)>(16);
    tokio::spawn(forward(stdout, Stream::Out, tx.clone()));
    match stderr {
        Ok(reader) => drop(tokio::spawn(forward(reader, Stream::Err, tx))),
        Err(mut receiver) => drop(tokio::spawn(async move {
            while let Some(chunk) = receiver.recv().await {
                let _ = tx.send((Stream::Err, chunk)).await;
            }
        })),
    }
    let mut out = Lines::new(Stream::Out);
    let mut err = Lines::new(Stream::Err);
    out.push(&rest, sink);
    while let Some((stream, chunk)) = chunks.recv().await {
        match stream {
            Stream::Out => out.push(&chunk, sink),
            Stream::Err => err.push(&chunk, sink),
        }
    }
    out.end(sink);
    err.end(sink);
    exit.await.unwrap_or(Exit::Lost)
}

async fn forward(mut from: Reader, stream: Stream, to: mpsc::Sender<(Stream, Vec<u8>)>) {
    let mut buffer = vec![0; 16_384];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if to.send((stream, buffer[..n].to_vec())).await.is_err() {
            break;
        }
    }
}

struct Lines {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Lines {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    fn push(&mut self, bytes: &[u8], sink: &mut (dyn FnMut(Line) + Send)) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            self.buffer.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.buffer.len() > LONGEST {
                self.end(sink);
            }
        }
    }

    fn end(&mut self, sink: &mut (dyn FnMut(Line) + Send)) {
        if self.buffer.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&self.buffer);
        sink(Line {
            stream: self.stream,
            text: text.strip_suffix('\n').unwrap_or(&text).to_owned(),
        });
        self.buffer.clear();
    }
}
