//! What JSON is written of, straight into one buffer.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::ConnectError;

/// Items with commas between them, in brackets.
pub fn sequence<T>(
    brackets: &[u8; 2],
    items: impl Iterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>) -> Result<(), ConnectError>,
) -> Result<(), ConnectError> {
    out.push(brackets[0]);
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(item, out)?;
    }
    out.push(brackets[1]);
    Ok(())
}

pub fn number(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("a Vec takes all");
}

pub fn text(value: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("text into a Vec");
}

/// As a string.
pub fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]);
    assert_eq!(written, Ok(out.len() - start), "base64 is a third longer");
    out.push(b'"');
}
