//! A server that speaks real HTTP/1.1 over TCP and misbehaves exactly as it is told.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use strake_oci::{Digest, Reference};

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Where a ranged request begins.
    pub(crate) fn range_start(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0)
    }
}

#[derive(Debug)]
pub(crate) enum How {
    /// As it should be.
    Whole,
    /// Announces all of the body, sends so many bytes of it, closes.
    CutAfter(usize),
    /// Sends the body in chunks without announcing its length.
    Chunked,
    /// Never answers.
    Silence,
    /// Sends the head, then a byte now and then.
    Drip,
    /// Closes without an answer.
    Close,
    /// Announces so many bytes, or none if 0, and sends zeros until the peer is gone.
    Endless(u64),
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) how: How,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), how: How::Whole }
    }

    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn how(mut self, how: How) -> Self {
        self.how = how;
        self
    }

    pub(crate) fn json(self, body: &str) -> Self {
        self.header("Content-Type", "application/json").body(body)
    }

    /// The rest of a blob, as the request's range asks.
    pub(crate) fn ranged(request: &Request, blob: &[u8]) -> Self {
        let start = request.range_start();
        if start == 0 {
            return Self::new(200).body(blob);
        }
        let range = format!("bytes {start}-{}/{}", blob.len() - 1, blob.len());
        Self::new(206).header("Content-Range", range).body(&blob[start..])
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;
type BodyLimit = dyn Fn(&Request) -> Option<usize> + Send + Sync;

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    /// The most connections that were being served at one moment.
    pub(crate) most_at_once: Arc<AtomicUsize>,
    log: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
}

impl Fake {
    pub(crate) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_cutting(|_| None, handler)
    }

    /// Like `start`; `limit` may end a request's body early, closing the connection before any answer.
    pub(crate) fn start_cutting(
        limit: impl Fn(&Request) -> Option<usize> + Send + Sync + 'static,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1:0", limit, handler)
    }

    pub(crate) fn start_at(
        address: &str,
        limit: impl Fn(&Request) -> Option<usize> + Send + Sync + 'static,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let fake = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            most_at_once: Arc::default(),
            log: Arc::default(),
            stopped: Arc::default(),
        };
        let (connections, log, stopped) = (fake.connections.clone(), fake.log.clone(), fake.stopped.clone());
        let most = fake.most_at_once.clone();
        let handler: Arc<Handler> = Arc::new(handler);
        let limit: Arc<BodyLimit> = Arc::new(limit);
        let busy = Arc::new(AtomicUsize::new(0));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                connections.fetch_add(1, Ordering::SeqCst);
                let (handler, limit, log) = (handler.clone(), limit.clone(), log.clone());
                let (stopped, busy, most) = (stopped.clone(), busy.clone(), most.clone());
                thread::spawn(move || {
                    let served = |request: &Request| {
                        most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        log.lock().unwrap().push(request.clone());
                        let reply = handler(request);
                        busy.fetch_sub(1, Ordering::SeqCst);
                        reply
                    };
                    let end = serve(&stream, &*limit, &served, &stopped);
                    if end.is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput) {
                        // What real servers say to a TLS greeting on a plain port.
                        let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
                    }
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        fake
    }

    /// The name of a repository here.
    pub(crate) fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.address).parse().unwrap()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// Methods and paths in order, for comparison.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    stream: &TcpStream,
    limit: &BodyLimit,
    handler: &dyn Fn(&Request) -> Reply,
    stopped: &AtomicBool,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(mut request) = read_head(&mut reader)? {
        let most = limit(&request);
        if !read_body(&mut reader, &mut request, most)? {
            // What was cut is part of what was seen.
            handler(&request);
            return Ok(());
        }
        if !answer(stream, &request, handler(&request), stopped)? {
            return Ok(());
        }
    }
    Ok(())
}

fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    match reader.fill_buf()?.first() {
        None => return Ok(None),
        Some(first) if !first.is_ascii_uppercase() => return Err(io::ErrorKind::InvalidInput.into()),
        Some(_) => reader.read_line(&mut line)?,
    };
    let mut parts = line.split_whitespace();
    let (Some(method), Some(path)) = (parts.next(), parts.next()) else {
        return Err(io::Error::other("no request line"));
    };
    let mut request =
        Request { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(request));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other("no header"))?;
        request.headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

/// Whether all of the body was read.
fn read_body(reader: &mut impl BufRead, request: &mut Request, most: Option<usize>) -> io::Result<bool> {
    let most = most.unwrap_or(usize::MAX);
    if request.header("transfer-encoding").is_some_and(|value| value == "chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            if size == 0 {
                return Ok(true);
            }
            request.body.extend_from_slice(&chunk[..size]);
            if request.body.len() >= most {
                request.body.truncate(most);
                return Ok(false);
            }
        }
    }
    let length: usize = request.header("content-length").map_or(0, |value| value.parse().unwrap());
    request.body = vec![0; length.min(most)];
    reader.read_exact(&mut request.body)?;
    Ok(length <= most)
}

/// Whether the connection goes on.
fn answer(mut stream: &TcpStream, request: &Request, reply: Reply, stopped: &AtomicBool) -> io::Result<bool> {
    let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let has_length = reply.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = match reply.how {
        How::Chunked | How::Endless(0) => "Transfer-Encoding: chunked\r\n".to_owned(),
        _ if has_length || reply.status == 204 => String::new(),
        How::Endless(length) => format!("Content-Length: {length}\r\n"),
        _ => format!("Content-Length: {}\r\n", reply.body.len()),
    };
    head.push_str(&length);
    head.push_str("\r\n");
    let wait = || {
        while !stopped.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
    };
    match reply.how {
        How::Close => return Ok(false),
        How::Silence => {
            wait();
            return Ok(false);
        }
        _ => stream.write_all(head.as_bytes())?,
    }
    if request.method == "HEAD" {
        return Ok(true);
    }
    match reply.how {
        How::Whole => stream.write_all(&reply.body)?,
        How::CutAfter(count) => {
            stream.write_all(&reply.body[..count])?;
            return Ok(false);
        }
        How::Chunked => {
            for chunk in reply.body.chunks(4096) {
                write!(stream, "{:x}\r\n", chunk.len())?;
                stream.write_all(chunk)?;
                stream.write_all(b"\r\n")?;
            }
            stream.write_all(b"0\r\n\r\n")?;
        }
        How::Drip => {
            while !stopped.load(Ordering::SeqCst) {
                stream.write_all(b" ")?;
                thread::sleep(Duration::from_millis(5));
            }
        }
        How::Endless(length) => {
            let zeros = vec![0; 65536];
            let mut left = if length == 0 { u64::MAX } else { length };
            while left > 0 && !stopped.load(Ordering::SeqCst) {
                if length == 0 {
                    stream.write_all(b"10000\r\n")?;
                }
                stream.write_all(&zeros)?;
                if length == 0 {
                    stream.write_all(b"\r\n")?;
                }
                left = left.saturating_sub(65536);
            }
        }
        How::Silence | How::Close => unreachable!("answered above"),
    }
    Ok(true)
}

/// Bytes without a pattern that a mistake could repeat.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn drain(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map(|_| bytes)
}

pub(crate) fn blob_path(repository: &str, bytes: &[u8]) -> String {
    format!("/v2/{repository}/blobs/{}", Digest::of(bytes))
}
