//! An HTTP server that greets, on the standard library only.

use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};

extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn _exit(status: i32) -> !;
}

/// Ends the program. The kernel does not do that for the first process of a container.
extern "C" fn stop(_: i32) {
    unsafe { _exit(0) }
}

fn main() -> Result<()> {
    const SIGTERM: i32 = 15;
    unsafe { signal(SIGTERM, stop) };
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_string());
    let listener = TcpListener::bind(format!("0.0.0.0:{port}"))?;
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            if let Err(err) = serve(stream) {
                eprintln!("{err}");
            }
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let body = answer(request.split(' ').nth(1).unwrap_or("/"));
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}", body.len(), body)
}

fn answer(path: &str) -> String {
    match path.strip_prefix("/hello/") {
        Some(name) => format!("Hello, {name}.\n"),
        None => format!("rust-service {}\n", env!("CARGO_PKG_VERSION")),
    }
}

#[test]
fn greets() {
    assert_eq!(answer("/hello/you"), "Hello, you.\n");
    assert_eq!(answer("/"), "rust-service 1.0.0\n");
}
