//! The language of the scripts: commands in, text out.

pub mod machine;
pub mod parse;
pub mod render;
