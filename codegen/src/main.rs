//! Writes `crates/serve/src/grpc/generated`: the messages and the service of `inference.proto`, and its description for
//! reflection.

use std::error::Error;
use std::path::{Path, PathBuf};

use protox::prost::Message as _;

/// What is put before the generated code: every file says what it is.
const HEADER: &str = "//! Generated from `proto/inference.proto` by `codegen`; do not edit.\n\n";

fn main() -> Result<(), Box<dyn Error>> {
    for (path, content) in generate()? {
        std::fs::write(path, content)?;
    }
    Ok(())
}

/// The files and what is to be in them.
fn generate() -> Result<[(PathBuf, Vec<u8>); 2], Box<dyn Error>> {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/serve");
    let mut descriptors = protox::compile(["inference.proto"], [server.join("proto")])?;
    let output = tempfile::TempDir::new()?;
    let mut config = tonic_prost_build::Config::new();
    // Tensors are shared with the message that brought them, and maps have an order.
    config.bytes(["."]).btree_map(["."]);
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .codec_path("crate::grpc::codec::Checked")
        .out_dir(output.path())
        .compile_fds_with_config(descriptors.clone(), config)?;
    let code = std::fs::read_to_string(output.path().join("inference.rs"))?;
    // Comments and places in the source are half of the size, and of no use to clients.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let folder = server.join("src/grpc/generated");
    Ok([
        (folder.join("inference.rs"), format!("{HEADER}{code}").into_bytes()),
        (folder.join("inference.binpb"), descriptors.encode_to_vec()),
    ])
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_committed_is_what_would_be_written() {
        for (path, content) in super::generate().expect("the description compiles") {
            let same = std::fs::read(&path).is_ok_and(|found| found == content);
            assert!(same, "{} is stale; run cargo run --manifest-path codegen/Cargo.toml", path.display());
        }
    }
}
