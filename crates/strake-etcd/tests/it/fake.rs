//! Servers that misbehave: a proxy before etcd that swallows answers, and one that is no etcd at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Passes requests on and answers back, except that so many transactions' answers are swallowed.
pub(crate) struct Proxy {
    pub(crate) address: String,
    pub(crate) swallow: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) fn start(etcd: String) -> Self {
        let swallow = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&swallow);
        let address = serve(move |path, body, client| {
            let mut upstream = TcpStream::connect(&etcd).unwrap();
            write!(upstream, "POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
            upstream.write_all(body).unwrap();
            let takes_one = |left: usize| left.checked_sub(1);
            let swallows = path == "/v3/kv/txn"
                && counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, takes_one).is_ok();
            if swallows {
                // All of it: etcd is done by then.
                upstream.read_to_end(&mut Vec::new()).unwrap();
            } else {
                let _ = std::io::copy(&mut upstream, client);
            }
        });
        Self { address, swallow }
    }
}

/// A server that answers as `handler` says: path, body, and the connection to write to. One request for each
/// connection.
pub(crate) fn serve(handler: impl Fn(&str, &[u8], &mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let handler = Arc::new(handler);
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let handler = Arc::clone(&handler);
            std::thread::spawn(move || {
                if let Some((path, body)) = request(&client) {
                    handler(&path, &body, &mut client);
                }
            });
        }
    });
    address
}

fn request(client: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(client);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, body))
}

/// Answers 200 with a body.
pub(crate) fn answer(client: &mut TcpStream, body: &str) {
    let _ = write!(
        client,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
}

/// Answers 200 with a body that has no end, made of `piece`, until the client has had enough.
pub(crate) fn endless(client: &mut TcpStream, piece: &str) {
    let _ = client.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    while client.write_all(piece.as_bytes()).is_ok() {}
}

/// Accepts and says nothing, until the client has had enough.
pub(crate) fn silence(client: &mut TcpStream) {
    let _ = client.read(&mut [0]);
}
