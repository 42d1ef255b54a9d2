//! Packed bodies, which must stay within their limit, and the header that asks for them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serve::compression::{Coding, negotiate, unpack};

fuzz_target!(|data: &[u8]| {
    for coding in Coding::ALL {
        if let Ok(unpacked) = unpack(coding, data, 1 << 16) {
            assert!(unpacked.len() <= 1 << 16);
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = negotiate(text.split(','));
    }
});
