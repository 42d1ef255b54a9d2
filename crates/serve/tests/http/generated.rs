//! The code of the gRPC services is what the compiler makes of the `.proto`; nobody needs `protoc` for it.

use std::path::Path;

use protox::prost::Message as _;

/// What is put before the generated code: every file says what it is.
const HEADER: &str = "//! Generated from `proto/inference.proto`; do not edit.\n\n";

/// What of the code and of the descriptors, which reflection serves, is to be.
fn generate() -> (String, Vec<u8>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut descriptors = protox::compile(["inference.proto"], [&folder]).unwrap();
    let output = tempfile::TempDir::new().unwrap();
    let prost = {
        let mut config = tonic_prost_build::Config::new();
        config.bytes(["."]).btree_map(["."]);
        config
    };
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .out_dir(output.path())
        .compile_fds_with_config(descriptors.clone(), prost)
        .unwrap();
    let code = std::fs::read_to_string(output.path().join("inference.rs")).unwrap();
    // Places in the source are of no use to clients, and half of the size; comments go with them.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    (format!("{HEADER}{code}"), descriptors.encode_to_vec())
}

#[test]
fn generated_code_is_that_of_the_proto() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/grpc/generated");
    let (code, descriptors) = generate();
    let (code_path, descriptors_path) = (folder.join("inference.rs"), folder.join("inference.binpb"));
    if std::env::var_os("BRAZIER_GENERATE").is_some_and(|value| value == "1") {
        std::fs::write(&code_path, &code).unwrap();
        std::fs::write(&descriptors_path, &descriptors).unwrap();
    }
    let stale = "run BRAZIER_GENERATE=1 cargo test -p serve --test http generated";
    assert!(std::fs::read_to_string(code_path).is_ok_and(|found| found == code), "{stale}");
    assert!(std::fs::read(descriptors_path).is_ok_and(|found| found == descriptors), "{stale}");
}
