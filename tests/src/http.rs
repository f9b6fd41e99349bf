//! One HTTP/1.1 request at a time, by hand: what a scraper or a probe sends, and what neither should.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No answer a test asks for is longer.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The value of a header, whose name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

pub async fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    request(address, "GET", path).await
}

pub async fn request(address: SocketAddr, method: &str, path: &str) -> io::Result<Answer> {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    read(stream, method == "HEAD").await
}

/// Reads one answer up to the end of the connection: the broker keeps none open.
pub async fn read(stream: TcpStream, has_no_body: bool) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    stream
        .take(MAX_ANSWER_BYTES)
        .read_to_end(&mut bytes)
        .await?;
    parse(&bytes, has_no_body).ok_or_else(|| {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(500)]).into_owned();
        io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP: {text:?}"))
    })
}

fn parse(bytes: &[u8], has_no_body: bool) -> Option<Answer> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?;
    let status = status.split(' ').next()?.parse().ok()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let answer = Answer {
        status,
        headers: lines.map(header).collect::<Option<_>>()?,
        body: body.to_owned(),
    };
    let told: usize = answer.header("content-length")?.parse().ok()?;
    let is_whole = if has_no_body {
        body.is_empty()
    } else {
        body.len() == told
    };
    is_whole.then_some(answer)
}
