//! Random numbers as functions of what they are for. Nothing is drawn from a generator that lives longer
//! than one call, so there is no state to save and the order of calls changes nothing.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A generator for one purpose: `seed` and `stream` say when, `key` (a layer or parameter) what for.
pub(crate) fn generator(seed: u64, stream: u64, key: &str) -> ChaCha8Rng {
    let mut bytes = [0u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&stream.to_le_bytes());
    bytes[16..24].copy_from_slice(&fnv1a(key).to_le_bytes());
    bytes[24..].copy_from_slice(b"brazier\0");
    ChaCha8Rng::from_seed(bytes)
}

/// A number in [0, 1) with 53 random bits.
pub(crate) fn uniform(generator: &mut ChaCha8Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A standard normal number, by Box and Muller's transform.
pub(crate) fn normal(generator: &mut ChaCha8Rng) -> f64 {
    // 1 − u is in (0, 1], so the logarithm is finite.
    let radius = (-2.0 * (1.0 - uniform(generator)).ln()).sqrt();
    radius * (std::f64::consts::TAU * uniform(generator)).cos()
}

/// FNV-1a, 64 bits: a stable hash of a key. The standard library's may differ between versions.
fn fnv1a(key: &str) -> u64 {
    key.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
