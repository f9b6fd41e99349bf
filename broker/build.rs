//! Compiles the check of the processor for any x86-64, unlike everything else.

fn main() {
    println!("cargo:rerun-if-changed=src/processor.c");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("x86_64") {
        return;
    }
    cc::Build::new()
        .file("src/processor.c")
        .flag("-march=x86-64")
        .link_lib_modifier("+whole-archive")
        .compile("processor");
}
