//! The backend of the lab: an HTTP server that says who it is, and a UDP echo.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tests::lab::pattern;

/// A backend for demonstrations and tests: an HTTP server that says who it is, and a UDP echo.
///
/// `GET /` answers with the server's name; `/whoami` with the addresses it sees, as JSON;
/// `/bytes/N` with N bytes of a known pattern and `/bytes/N/sha256` with their hash;
/// `/drip/COUNT/MS` with COUNT lines, one every MS milliseconds; `/stats` with counters.
/// `PUT /upload` answers with the SHA-256 of what it was sent.
/// A datagram saying `whoami` is answered with the server's name, any other one with itself.
/// Prints READY once it listens everywhere.
#[derive(Debug, Parser)]
#[command(name = "lab-server")]
struct Args {
    /// What the server calls itself.
    #[arg(long)]
    name: String,

    /// Address and port of an HTTP server, for example `[::]:80` for IPv4 and IPv6; repeatable.
    #[arg(long, value_name = "ADDRESS")]
    http: Vec<SocketAddr>,

    /// Address and port of a UDP echo; repeatable.
    #[arg(long, value_name = "ADDRESS")]
    udp: Vec<SocketAddr>,
}

/// Longest request head accepted.
const MAX_HEAD: u64 = 16 * 1024;
/// A silent peer is let go after this long.
const PATIENCE: Duration = Duration::from_mins(2);
/// Enough for a connection's buffers; a thousand of them must fit.
const STACK: usize = 256 * 1024;

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    open: AtomicU64,
    requests: AtomicU64,
    datagrams: AtomicU64,
}

#[derive(Debug)]
struct Server {
    name: String,
    counters: Counters,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> io::Result<()> {
    let server = Arc::new(Server {
        name: args.name,
        counters: Counters::default(),
    });
    let explain = |what: &str, at: &SocketAddr, error: io::Error| {
        io::Error::new(error.kind(), format!("{what} {at}: {error}"))
    };
    let mut threads = Vec::new();
    for address in &args.http {
        let listener =
            TcpListener::bind(address).map_err(|error| explain("http", address, error))?;
        // SAFETY: listen takes integers; on a socket that listens already it sets the backlog. The
        // library's own of 128 has a burst of connections wait for retransmitted SYNs.
        unsafe { libc::listen(listener.as_raw_fd(), 4096) };
        let server = Arc::clone(&server);
        threads.push(thread::spawn(move || server.accept(&listener)));
    }
    for address in &args.udp {
        let socket = UdpSocket::bind(address).map_err(|error| explain("udp", address, error))?;
        let server = Arc::clone(&server);
        threads.push(thread::spawn(move || server.echo(&socket)));
    }
    println!("READY");
    for thread in threads {
        thread
            .join()
            .map_err(|_| io::Error::other("a listening thread died"))?;
    }
    Ok(())
}

/// What matters of a request's head.
struct Request {
    method: String,
    path: String,
    content_length: u64,
    keep_alive: bool,
    expects_continue: bool,
}

impl Server {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept() else {
                // Out of descriptors, most likely: let some connections end.
                thread::sleep(Duration::from_millis(10));
                continue;
            };
            let server = Arc::clone(self);
            server.counters.connections.fetch_add(1, Ordering::Relaxed);
            server.counters.open.fetch_add(1, Ordering::Relaxed);
            let serve = move || {
                // A peer that goes away in the middle is its own affair.
                drop(server.converse(&stream));
                server.counters.open.fetch_sub(1, Ordering::Relaxed);
            };
            if let Err(error) = thread::Builder::new().stack_size(STACK).spawn(serve) {
                eprintln!("lab-server: no thread for a connection: {error}");
            }
        }
    }

    fn converse(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::with_capacity(64 * 1024, stream);
        while let Some(request) = read_request(&mut reader)? {
            self.counters.requests.fetch_add(1, Ordering::Relaxed);
            if request.expects_continue {
                (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let hash = hash_body(&mut reader, request.content_length)?;
            self.answer(stream, &request, &hash)?;
            if !request.keep_alive {
                break;
            }
        }
        Ok(())
    }

    fn answer(&self, stream: &TcpStream, request: &Request, hash: &str) -> io::Result<()> {
        let path = request.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let text =
            |body: String| self.respond(stream, request, "200 OK", "text/plain", body.as_bytes());
        match (request.method.as_str(), parts.as_slice()) {
            ("PUT" | "POST", ["upload"]) => text(format!("{hash}\n")),
            ("GET", [""]) => text(format!("{}\n", self.name)),
            ("GET", ["whoami"]) => {
                let body = json!({
                    "server": self.name,
                    "client": canonical(stream.peer_addr()?),
                    "local": canonical(stream.local_addr()?),
                });
                self.respond(
                    stream,
                    request,
                    "200 OK",
                    "application/json",
                    format!("{body}\n").as_bytes(),
                )
            }
            ("GET", ["stats"]) => {
                let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                let body = json!({
                    "server": self.name,
                    "connections": read(&self.counters.connections),
                    "open": read(&self.counters.open),
                    "requests": read(&self.counters.requests),
                    "datagrams": read(&self.counters.datagrams),
                });
                self.respond(
                    stream,
                    request,
                    "200 OK",
                    "application/json",
                    format!("{body}\n").as_bytes(),
                )
            }
            ("GET", ["bytes", len, more @ ..]) => match (len.parse::<u64>(), more) {
                (Ok(len), []) => {
                    self.head(stream, request, "200 OK", "application/octet-stream", len)?;
                    send_pattern(stream, len)
                }
                (Ok(len), ["sha256"]) => text(format!("{}\n", pattern::sha256(len))),
                _ => self.not_found(stream, request),
            },
            ("GET", ["drip", count, interval]) => match (count.parse::<u64>(), interval.parse()) {
                (Ok(count), Ok(interval)) => {
                    self.drip(stream, request, count, Duration::from_millis(interval))
                }
                _ => self.not_found(stream, request),
            },
            _ => self.not_found(stream, request),
        }
    }

    /// Lines of equal length at a steady pace: a connection that is busy for as long as asked.
    fn drip(
        &self,
        stream: &TcpStream,
        request: &Request,
        count: u64,
        interval: Duration,
    ) -> io::Result<()> {
        let line = |index: u64| format!("{} {index:08}\n", self.name);
        self.head(
            stream,
            request,
            "200 OK",
            "text/plain",
            count * line(0).len() as u64,
        )?;
        for index in 0..count {
            thread::sleep(interval);
            (&*stream).write_all(line(index).as_bytes())?;
        }
        Ok(())
    }

    fn not_found(&self, stream: &TcpStream, request: &Request) -> io::Result<()> {
        self.respond(
            stream,
            request,
            "404 Not Found",
            "text/plain",
            b"no such page\n",
        )
    }

    fn respond(
        &self,
        stream: &TcpStream,
        request: &Request,
        status: &str,
        kind: &str,
        body: &[u8],
    ) -> io::Result<()> {
        self.head(stream, request, status, kind, body.len() as u64)?;
        (&*stream).write_all(body)
    }

    fn head(
        &self,
        mut stream: &TcpStream,
        request: &Request,
        status: &str,
        kind: &str,
        len: u64,
    ) -> io::Result<()> {
        let connection = if request.keep_alive {
            "keep-alive"
        } else {
            "close"
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\nConnection: {connection}\r\n\
             X-Served-By: {}\r\nX-Client: {}\r\n\r\n",
            self.name,
            canonical(stream.peer_addr()?),
        );
        stream.write_all(head.as_bytes())
    }

    fn echo(&self, socket: &UdpSocket) {
        let mut buffer = vec![0; 65_536];
        loop {
            // Errors here are echoes of ICMP errors for earlier answers.
            let Ok((len, peer)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            self.counters.datagrams.fetch_add(1, Ordering::Relaxed);
            let answer = if &buffer[..len] == b"whoami" {
                self.name.as_bytes()
            } else {
                &buffer[..len]
            };
            drop(socket.send_to(answer, peer));
        }
    }
}

/// An IPv4 peer of a dual-stack socket, shown as the IPv4 address it is.
fn canonical(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

/// Reads one request head; `None` when the peer has closed between requests.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut head = reader.take(MAX_HEAD);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Err(bad("not an HTTP request"));
    };
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        content_length: 0,
        keep_alive: version != "HTTP/1.0",
        expects_continue: false,
    };
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Err(bad("the request head ends too soon or is too long"));
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(request));
        }
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                request.content_length = value.parse().map_err(|_| bad("bad Content-Length"))?;
            }
            "connection" => request.keep_alive = !value.eq_ignore_ascii_case("close"),
            "expect" => request.expects_continue = true,
            "transfer-encoding" => return Err(bad("chunked requests are not understood")),
            _ => {}
        }
    }
}

/// Reads a request's body, keeping nothing but its SHA-256.
fn hash_body(reader: &mut impl BufRead, len: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut body = reader.take(len);
    loop {
        let chunk = body.fill_buf()?;
        if chunk.is_empty() {
            break;
        }
        hash.update(chunk);
        let used = chunk.len();
        body.consume(used);
    }
    if body.limit() > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(pattern::hex(&hash.finalize()))
}

fn send_pattern(mut stream: &TcpStream, len: u64) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut offset = 0;
    while offset < len {
        let take =
            usize::try_from(len - offset).map_or(buffer.len(), |left| left.min(buffer.len()));
        pattern::fill(offset, &mut buffer[..take]);
        stream.write_all(&buffer[..take])?;
        offset += take as u64;
    }
    Ok(())
}
