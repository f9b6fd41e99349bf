//! Generates the Rust side of `proto/*.proto`. protox parses them in Rust, so that a build needs no
//! `protoc` binary.
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["metadata.proto", "peer.proto"], ["proto"])?;
    // `cleanup-markdown` is off, and a .proto comment is no doctest.
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(files)?;
    Ok(())
}
