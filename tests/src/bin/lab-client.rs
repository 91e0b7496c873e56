//! The client of the lab for what curl cannot do: many connections at once, and UDP.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use tests::lab::pattern;

/// A client for demonstrations and tests; prints what happened as one JSON object.
///
/// Exits with 0 if everything was answered as it should be, else with 1.
#[derive(Debug, Parser)]
#[command(name = "lab-client")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Opens many TCP connections, has them all open at the same time, sends a request on each, and
    /// closes them.
    Connections {
        /// Address and port of the HTTP server.
        target: SocketAddr,
        /// How many connections.
        #[arg(long, default_value_t = 1000)]
        count: usize,
        /// Milliseconds to keep them all open before the requests are sent.
        #[arg(long, default_value_t = 0)]
        hold_ms: u64,
        /// Seconds any one step of a connection may take.
        #[arg(long, default_value_t = 20)]
        timeout: u64,
    },
    /// Sends datagrams to a UDP echo, each from a port of its own, and asks who echoed them.
    Udp {
        /// Address and port of the echo.
        target: SocketAddr,
        /// How many sockets.
        #[arg(long, default_value_t = 30)]
        count: usize,
        /// Bytes in each datagram.
        #[arg(long, default_value_t = 64)]
        size: usize,
        /// Milliseconds to wait for each answer.
        #[arg(long, default_value_t = 1000)]
        timeout_ms: u64,
        /// Times to send a datagram that is not answered.
        #[arg(long, default_value_t = 3)]
        attempts: usize,
    },
}

/// Enough for a small request; a thousand threads must fit.
const STACK: usize = 128 * 1024;

fn main() -> ExitCode {
    let (asked, outcomes) = match Args::parse().command {
        Command::Connections {
            target,
            count,
            hold_ms,
            timeout,
        } => (
            count,
            connections(
                target,
                count,
                Duration::from_millis(hold_ms),
                Duration::from_secs(timeout),
            ),
        ),
        Command::Udp {
            target,
            count,
            size,
            timeout_ms,
            attempts,
        } => (
            count,
            datagrams(
                target,
                count,
                size,
                Duration::from_millis(timeout_ms),
                attempts,
            ),
        ),
    };
    let (report, good) = summary(asked, &outcomes);
    println!("{report}");
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Counts who answered, and how each failure reads.
fn summary(asked: usize, outcomes: &[io::Result<String>]) -> (Value, bool) {
    let mut servers = BTreeMap::<&str, usize>::new();
    let mut errors = BTreeMap::<String, usize>::new();
    for outcome in outcomes {
        match outcome {
            Ok(server) => *servers.entry(server).or_default() += 1,
            Err(error) => *errors.entry(error.to_string()).or_default() += 1,
        }
    }
    let answered = servers.values().sum::<usize>();
    (
        json!({ "asked": asked, "answered": answered, "servers": servers, "errors": errors }),
        answered == asked,
    )
}

fn connections(
    target: SocketAddr,
    count: usize,
    hold: Duration,
    timeout: Duration,
) -> Vec<io::Result<String>> {
    let open = in_threads((0..count).collect(), move |_| {
        let stream = TcpStream::connect_timeout(&target, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(stream)
    });
    thread::sleep(hold);
    in_threads(open, |stream| request(&stream?))
}

/// Runs `action` on every item at once; a thread that cannot be had is an error of its item.
fn in_threads<I, T>(
    items: Vec<I>,
    action: impl Fn(I) -> io::Result<T> + Copy + Send + 'static,
) -> Vec<io::Result<T>>
where
    I: Send + 'static,
    T: Send + 'static,
{
    let threads: Vec<_> = items
        .into_iter()
        .map(|item| {
            thread::Builder::new()
                .stack_size(STACK)
                .spawn(move || action(item))
        })
        .collect();
    threads
        .into_iter()
        .map(|thread| {
            thread?
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a client thread died")))
        })
        .collect()
}

/// Asks for the server's name and reads until the server closes.
fn request(mut stream: &TcpStream) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    match response.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.trim_end().to_owned()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not the response expected",
        )),
    }
}

/// Asks from one socket after another; all stay open, so that no two have the same port.
fn datagrams(
    target: SocketAddr,
    count: usize,
    size: usize,
    timeout: Duration,
    attempts: usize,
) -> Vec<io::Result<String>> {
    let mut open = Vec::new();
    (0..count)
        .map(|index| {
            let any = if target.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(target)?;
            socket.set_read_timeout(Some(timeout))?;
            let answer = echo(&socket, index, size, attempts);
            open.push(socket);
            answer
        })
        .collect()
}

/// Sends one datagram, which must come back, and asks who sent it back.
fn echo(socket: &UdpSocket, index: usize, size: usize, attempts: usize) -> io::Result<String> {
    let mut payload = vec![0; size];
    pattern::fill(index as u64 * 4096, &mut payload);
    let echoed = exchange(socket, &payload, attempts)?;
    if echoed != payload {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the echo differs from what was sent",
        ));
    }
    let name = exchange(socket, b"whoami", attempts)?;
    String::from_utf8(name).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Sends a datagram until something comes back.
fn exchange(socket: &UdpSocket, payload: &[u8], attempts: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    let mut last = io::Error::new(io::ErrorKind::TimedOut, "no answer");
    for _ in 0..attempts {
        socket.send(payload)?;
        match socket.recv(&mut buffer) {
            Ok(len) => return Ok(buffer[..len].to_vec()),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}
