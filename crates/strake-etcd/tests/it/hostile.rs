//! Servers that are no etcd: every wait ends, whatever they send, and what they say is not shown raw.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use strake_etcd::{Attempt, ErrorKind, Waited};

use crate::fake::{answer, endless, serve, silence};
use crate::{LONG, hasty, me};

/// What the first lock gives at a server that answers everything so.
fn check(kind: ErrorKind, handler: impl Fn(&mut TcpStream) + Send + Sync + 'static) {
    let address = serve(move |_, _, client| handler(client));
    let failed = hasty(&format!("etcd://{address}")).try_lock("a", &me("a test")).unwrap_err();
    let text = failed.to_string();
    assert_eq!(failed.kind, kind, "{text}");
    assert!(!text.contains('\u{1b}') && text.chars().count() < 700, "{text}");
}

#[test]
fn garbage_is_no_lease() {
    check(ErrorKind::Protocol, |client| answer(client, "<html>welcome\u{1b}[2J"));
    check(ErrorKind::Protocol, |client| answer(client, ""));
    check(ErrorKind::Protocol, |client| answer(client, "{}"));
    check(ErrorKind::Protocol, |client| answer(client, r#"{"ID":"-5","TTL":"10"}"#));
    check(ErrorKind::Protocol, |client| answer(client, r#"{"ID":"99999999999999999999","TTL":"10"}"#));
    check(ErrorKind::Protocol, |client| answer(client, &"[".repeat(200_000)));
    check(ErrorKind::Unreachable, |client| drop(client.write_all(b"\x16\x03\x01 not HTTP at all")));
    check(ErrorKind::Unreachable, |_| ());
}

#[test]
fn refusals_in_every_form_are_told() {
    let refusal = |status: &'static str, body: &'static str| {
        move |client: &mut TcpStream| {
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
            let _ = client.write_all((head + body).as_bytes());
        }
    };
    check(ErrorKind::Protocol, refusal("404 Not Found", "Not Found"));
    check(ErrorKind::Unavailable, refusal("502 Bad Gateway", "<html>"));
    check(ErrorKind::Unavailable, refusal("503 No", r#"{"error":"etcdserver: no leader","code":14}"#));
    check(ErrorKind::Refused, refusal("400 Bad", r#"{"error":"\u001b[31m no\n\u001b]0;x","code":3}"#));
    check(ErrorKind::Protocol, refusal("302 Found\r\nLocation: http://127.0.0.1:1/", ""));
}

#[test]
fn endless_and_silent_servers_are_left() {
    check(ErrorKind::Protocol, |client| endless(client, "{\"ID\":\"1\",\n"));
    check(ErrorKind::TimedOut, silence);
    check(ErrorKind::TimedOut, |client| {
        let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{");
        silence(client);
    });
}

/// A server that grants leases and says that every lock is taken, with `value` by somebody; `watch` is what it streams.
fn taken(value: &'static str, watch: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> String {
    serve(move |path, _, client| match path {
        "/v3/lease/grant" => answer(client, r#"{"ID":"7","TTL":"9223372036854775807"}"#),
        "/v3/watch" => watch(client),
        "/v3/kv/range" => {
            let key = r#"{"header":{"revision":"5"},"kvs":[{"create_revision":"3","value":""}]}"#;
            answer(client, key);
        }
        "/v3/kv/txn" => {
            let key = format!(r#"{{"create_revision":"3","value":"{value}"}}"#);
            let range = format!(r#"{{"response_range":{{"kvs":[{key}]}}}}"#);
            answer(client, &format!(r#"{{"header":{{"revision":"4"}},"responses":[{range}]}}"#));
        }
        _ => answer(client, "{}"),
    })
}

#[test]
fn a_holder_that_is_nonsense_is_nobody() {
    for value in ["", "AAAA", "e30="] {
        let address = taken(value, |_| ());
        let node = hasty(&format!("etcd://{address}"));
        let Ok(Attempt::Busy(busy)) = node.try_lock("a", &me("a test")) else { panic!("it is taken") };
        assert_eq!(busy.holder, None);
    }
    let address = taken("no base64!", |_| ());
    let failed = hasty(&format!("etcd://{address}")).try_lock("a", &me("a test")).unwrap_err();
    assert_eq!(failed.kind, ErrorKind::Protocol);
}

#[test]
fn streams_of_nonsense_do_not_wake_and_do_not_hold() {
    let streams: [fn(&mut TcpStream); 5] = [
        |client| endless(client, "x"),
        |client| endless(client, "\n\n\n\n"),
        |client| endless(client, "{\"result\":{\"events\":[{\"type\":\"PUT\"}]}}\n"),
        silence,
        |client| answer(client, "{\"error\":{\"message\":\"no\"}}\n"),
    ];
    for stream in streams {
        let node = hasty(&format!("etcd://{}", taken("", stream)));
        let Ok(Attempt::Busy(busy)) = node.try_lock("a", &me("a test")) else { panic!("it is taken") };
        assert_eq!(node.wait(&busy, Duration::from_millis(400), &|| false), Ok(Waited::TimedOut));
    }
    let event = "{\"result\":{\"created\":true}}\n{\"result\":{\"events\":[{\"type\":\"DELETE\"}]}}\n";
    let node = hasty(&format!("etcd://{}", taken("", move |client| answer(client, event))));
    let Ok(Attempt::Busy(busy)) = node.try_lock("a", &me("a test")) else { panic!("it is taken") };
    assert_eq!(node.wait(&busy, LONG, &|| false), Ok(Waited::Changed));
}
