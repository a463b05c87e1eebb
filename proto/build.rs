//! Compiles the protocol with protox, a protobuf compiler in Rust: no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["agent", "enroll", "operator", "peer"].map(|name| format!("cordon/v1/{name}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["."])?;
    // Kept beside the code, so that tests can walk every RPC there is.
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("cordon.descriptors");
    std::fs::write(out, protox::prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        .bytes(".cordon.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
