//! A program for images that hold nothing else. `talk serve PORT` sends its PID to every client that connects. `talk
//! ask PORT TEXT` prints the answer of the server on that port. tests/docker/run.rs builds the program statically.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

fn main() -> std::io::Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let port = || words[2].parse::<u16>().expect("a port");
    match words[1].as_str() {
        "serve" => serve(port()),
        "ask" => ask(port(), &words[3]),
        word => panic!("{word}: serve or ask"),
    }
}

fn serve(port: u16) -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("talk listens");
    for stream in listener.incoming() {
        writeln!(stream?, "served by {}", std::process::id())?;
    }
    Ok(())
}

fn ask(port: u16, text: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(text.replace("\\n", "\r\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = vec![];
    stream.read_to_end(&mut answer)?;
    std::io::stdout().write_all(&answer)
}
