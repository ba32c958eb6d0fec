//! Compiles the messages without a system protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["chunk.proto", "join.proto", "key.proto", "ledger.proto", "status.proto"];
    let descriptors = protox::compile(files, ["src"])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    config.compile_fds(descriptors)?;
    println!("cargo::rerun-if-changed=src");
    Ok(())
}
