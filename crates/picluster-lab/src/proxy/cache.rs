//! Files fetched before. What never changes under its name (`/pool/`, `/by-hash/`) is kept for ever; the rest is asked
//! for again, and served as it was when nobody answers.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::upstream::{HttpProxy, Pool, fetch, machine_proxy};
use crate::error::{Attempt, Trouble};

/// How long an index counts as fresh: many nodes update at once and need not all ask upstream.
const FRESH: Duration = Duration::from_secs(30);

/// The answer to a request.
pub(crate) enum Answer {
    File {
        file: File,
        length: u64,
        last_modified: Option<String>,
    },
    NotModified,
    Status {
        code: u16,
        location: Option<String>,
    },
}

/// A directory of fetched files, shared by all labs of a user.
pub(crate) struct Cache {
    dir: PathBuf,
    proxy: Option<HttpProxy>,
    busy: Mutex<HashMap<String, Arc<Mutex<()>>>>,
    counter: AtomicU64,
    pool: Pool,
}

impl Cache {
    /// Opens or creates it.
    pub(crate) fn open(dir: &Path) -> Result<Arc<Self>, Trouble> {
        fs::create_dir_all(dir).attempt(|| format!("create {}", dir.display()))?;
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            // Half a download of a process that is gone.
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name
                .strip_prefix(".part-")
                .and_then(|n| n.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Arc::new(Cache {
            dir: dir.to_owned(),
            proxy: machine_proxy(),
            busy: Mutex::default(),
            counter: AtomicU64::new(0),
            pool: Pool::default(),
        }))
    }

    /// The file at `url`, from here or from upstream.
    pub(crate) fn get(&self, url: &str, since: Option<&str>) -> Answer {
        let key: String = Sha256::digest(url.as_bytes())
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let lock = Arc::clone(
            self.busy
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(key.clone())
                .or_default(),
        );
        // One fetch per file, however many nodes want it.
        let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.dir.join(&key);
        let answer = self.locked(url, &path);
        drop(guard);
        match answer {
            Ok(()) => self.open_file(&path, since),
            Err(answer) => answer,
        }
    }

    /// Makes sure the file is there, or says what to answer instead.
    fn locked(&self, url: &str, path: &Path) -> Result<(), Answer> {
        let there = fs::metadata(path).ok();
        let for_ever = url.contains("/pool/") || url.contains("/by-hash/");
        let age = there
            .as_ref()
            .and_then(|m| SystemTime::now().duration_since(m.modified().ok()?).ok());
        if there.is_some() && (for_ever || age.is_some_and(|a| a < FRESH)) {
            return Ok(());
        }
        let unavailable = || Answer::Status {
            code: 503,
            location: None,
        };
        let known = there
            .as_ref()
            .and_then(|_| fs::read_to_string(date_file(path)).ok());
        let part = self.dir.join(format!(
            ".part-{}-{}",
            std::process::id(),
            self.counter.fetch_add(1, Ordering::Relaxed)
        ));
        let result = File::create(&part).and_then(|mut f| {
            fetch(
                url,
                known.as_deref(),
                self.proxy.as_ref(),
                &self.pool,
                &mut f,
            )
        });
        let outcome = match result {
            Ok(reply) if reply.code == 200 => {
                let _ = match &reply.last_modified {
                    Some(date) => fs::write(date_file(path), date),
                    None => fs::remove_file(date_file(path)),
                };
                fs::rename(&part, path).map_err(|_| unavailable())
            }
            Ok(reply) if reply.code == 304 && there.is_some() => {
                let _ = File::options()
                    .append(true)
                    .open(path)
                    .and_then(|f| f.set_modified(SystemTime::now()));
                Ok(())
            }
            Ok(reply) => Err(Answer::Status {
                code: reply.code,
                location: reply.location,
            }),
            // Offline: the last known index is better than none.
            Err(_) if there.is_some() => Ok(()),
            Err(_) => Err(unavailable()),
        };
        let _ = fs::remove_file(&part);
        outcome
    }

    fn open_file(&self, path: &Path, since: Option<&str>) -> Answer {
        let last_modified = fs::read_to_string(date_file(path)).ok();
        if since.is_some() && since == last_modified.as_deref() {
            return Answer::NotModified;
        }
        match File::open(path).and_then(|f| f.metadata().map(|m| (f, m.len()))) {
            Ok((file, length)) => Answer::File {
                file,
                length,
                last_modified,
            },
            Err(_) => Answer::Status {
                code: 503,
                location: None,
            },
        }
    }
}

/// Beside each file: its `Last-Modified`, as upstream wrote it.
fn date_file(path: &Path) -> PathBuf {
    path.with_extension("date")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// An upstream that answers each connection once with `body`, and counts.
    fn upstream(body: &'static str) -> (u16, Arc<AtomicU64>, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, count) = (
            listener.local_addr().unwrap().port(),
            Arc::new(AtomicU64::new(0)),
        );
        let (own, counted) = (listener.try_clone().unwrap(), Arc::clone(&count));
        std::thread::spawn(move || {
            for mut s in own.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut buffer = [0; 1024];
                let n = s.read(&mut buffer).unwrap();
                let conditional =
                    String::from_utf8_lossy(&buffer[..n]).contains("If-Modified-Since");
                let _ = if conditional {
                    write!(s, "HTTP/1.1 304 Not Modified\r\n\r\n")
                } else {
                    write!(
                        s,
                        "HTTP/1.1 200 OK\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    )
                };
            }
        });
        (port, count, listener)
    }

    fn text(answer: Answer) -> String {
        let Answer::File { mut file, .. } = answer else {
            panic!("no file")
        };
        let mut t = String::new();
        file.read_to_string(&mut t).unwrap();
        t
    }

    #[test]
    fn pool_files_are_fetched_once_and_indexes_survive_being_offline() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = Arc::into_inner(Cache::open(dir.path()).unwrap()).unwrap();
        cache.proxy = None;
        let (port, count, _listener) = upstream("hello");
        let pool = format!("http://127.0.0.1:{port}/debian/pool/main/a.deb");
        assert_eq!(text(cache.get(&pool, None)), "hello");
        assert_eq!(text(cache.get(&pool, None)), "hello");
        assert_eq!(count.load(Ordering::SeqCst), 1);
        let index = format!("http://127.0.0.1:{port}/debian/dists/x/InRelease");
        assert_eq!(text(cache.get(&index, None)), "hello");
        assert!(matches!(
            cache.get(&index, Some("Thu, 01 Jan 1970 00:00:00 GMT")),
            Answer::NotModified
        ));
        assert_eq!(count.load(Ordering::SeqCst), 2);
        // Stale, and upstream confirms it.
        let old = SystemTime::now() - Duration::from_secs(3600);
        let age = || {
            for e in fs::read_dir(dir.path()).unwrap().flatten() {
                File::options()
                    .append(true)
                    .open(e.path())
                    .unwrap()
                    .set_modified(old)
                    .unwrap();
            }
        };
        age();
        assert_eq!(text(cache.get(&index, None)), "hello");
        assert_eq!(count.load(Ordering::SeqCst), 3);
        // Stale, and nobody there.
        age();
        cache.proxy = Some(HttpProxy {
            host: "127.0.0.1".into(),
            port: 1,
        });
        assert_eq!(text(cache.get(&index, None)), "hello");
        assert!(matches!(
            cache.get("http://127.0.0.1:1/x", None),
            Answer::Status { code: 503, .. }
        ));
    }
}
