//! The messages of gRPC.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use serve::grpc::convert;
use serve::grpc::inference::ModelInferRequest;

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = ModelInferRequest::decode(data) {
        let _ = convert::decode(message);
    }
});
