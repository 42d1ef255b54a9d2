//! What is coded comes back bit by bit, whatever it is, and nothing else is believed.

use network::{DType, Elements, Tensor, Weights};
use proptest::prelude::*;

use super::coder::{Coder, Encoder};
use super::{CodecError, MAGIC, VERSION, decode, encode, header};
use crate::digest::sha256_hex;
use crate::limits::Limits;
use crate::record::{self, Entry};

/// A number that depends on two others and on nothing else.
fn noise(seed: u64, index: u64) -> u64 {
    let mut state = (seed << 32 ^ index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ state >> 31
}

/// A number between 0 and 1.
fn unit(seed: u64, index: u64) -> f64 {
    (noise(seed, index) >> 11) as f64 / (1u64 << 53) as f64
}

/// Nearly normal, with a deviation of 1.
fn normal(seed: u64, index: u64) -> f64 {
    (0..12).map(|part| unit(seed ^ 0x55, index * 12 + part)).sum::<f64>() - 6.0
}

fn floats(shape: &[usize], value: impl Fn(u64) -> f64) -> Tensor {
    let count = network::element_count(shape).unwrap() as u64;
    Tensor::from_f32(shape.to_vec(), (0..count).map(|index| value(index) as f32).collect()).unwrap()
}

fn integers(shape: &[usize], value: impl Fn(u64) -> i8) -> Tensor {
    let count = shape.iter().product::<usize>() as u64;
    Tensor::new(shape.to_vec(), Elements::I8((0..count).map(value).collect())).unwrap()
}

fn one(tensor: Tensor) -> Weights {
    Weights::from([("fc1.weight".to_owned(), tensor)])
}

/// A convolution, a pruned and clustered matrix, an int8 layer, odd names and odd shapes.
fn sample() -> Weights {
    let clusters = [-0.3, -0.1, 0.125, 0.4];
    let sparse = |index: u64| match unit(2, index) {
        share if share < 0.9 => 0.0,
        _ => clusters[(noise(3, index) % 4) as usize],
    };
    let tensors = [
        ("conv1.weight", floats(&[4, 1, 3, 3], |index| normal(1, index) * 0.2)),
        ("conv1.bias", floats(&[4], |index| normal(4, index) * 0.01)),
        ("fc1.weight", floats(&[36, 10], sparse)),
        ("fc1.bias", floats(&[10], |_| 0.0)),
        ("fc2.weight", integers(&[10, 6], |index| (normal(5, index) * 30.0) as i8)),
        ("fc2.scale", floats(&[6], |index| 0.001 + 0.001 * unit(6, index))),
        ("fc2.bias", floats(&[6], |index| f64::from(index as u32) * 0.25)),
        ("norm10.running_var", floats(&[4], |index| 1.0 + unit(7, index))),
        ("norm10.momentum.of all — ünïcode", floats(&[], |_| 0.1)),
        ("plain", floats(&[0, 3], |_| 0.0)),
        ("plain.", floats(&[0, 1 << 40, 1 << 40], |_| 0.0)),
        (".weight", floats(&[1, 2, 1, 2, 1, 1, 1, 1], |index| index as f64)),
        ("", floats(&[1], |_| f64::NAN)),
    ];
    tensors.map(|(name, tensor)| (name.to_owned(), tensor)).into()
}

/// Decodes what was encoded and compares the records, which keeps every bit of numbers that equal nothing.
fn round_trip(weights: &Weights) -> Vec<u8> {
    let bytes = encode(weights).unwrap();
    let back = decode(&bytes, &Limits::default()).unwrap();
    assert_eq!(record::encode(&back).unwrap(), record::encode(weights).unwrap());
    bytes
}

fn bits_each(tensor: Tensor) -> f64 {
    let count = tensor.elements().len() as f64;
    round_trip(&one(tensor)).len() as f64 * 8.0 / count
}

#[test]
fn everything_comes_back() {
    let bytes = round_trip(&sample());
    assert!(bytes.len() < record::encode(&sample()).unwrap().len() / 3, "{}", bytes.len());
    assert_eq!(round_trip(&Weights::new()).len(), 4 + 3);
}

#[test]
fn every_type_of_a_record_comes_back() {
    let elements = [
        Elements::F32(vec![-0.0, f32::from_bits(0x7fc0_1234), f32::INFINITY, 1e-45, -f32::MAX, 0.0]),
        Elements::F64(vec![-0.0, f64::from_bits(0xfff8_0000_0000_0001), 1e-310, f64::MAX, 0.5, 0.0]),
        Elements::I8(vec![-128, 0, 127, -1, 1, 0]),
        Elements::I16(vec![i16::MIN, 0, i16::MAX, -1, 1, 0]),
        Elements::I32(vec![i32::MIN, 0, i32::MAX, -1, 1, 0]),
        Elements::I64(vec![i64::MIN, 0, i64::MAX, -1, 1, 0]),
        Elements::U8(vec![0, 1, 255, 3, 4, 5]),
        Elements::U16(vec![0, 1, u16::MAX, 3, 4, 5]),
        Elements::U32(vec![0, 1, u32::MAX, 3, 4, 5]),
        Elements::U64(vec![0, 1, u64::MAX, 3, 4, 5]),
    ];
    for elements in elements {
        // Few values in many elements, and many in few.
        for repeats in [1, 50] {
            let tensor = repeated(&elements, repeats);
            round_trip(&one(tensor));
        }
    }
    let bools = Tensor::new(vec![1], Elements::Bool(vec![true])).unwrap();
    let error = encode(&one(bools)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor `fc1.weight` has elements of type BOOL, which a record cannot hold"
    );
}

fn repeated(elements: &Elements, repeats: usize) -> Tensor {
    let count = elements.len() * repeats;
    let mut many = super::bits::zeros(elements.dtype(), count).unwrap();
    for index in 0..count {
        super::bits::set(&mut many, index, super::bits::get(elements, index % elements.len()));
    }
    Tensor::new(vec![repeats, elements.len()], many).unwrap()
}

/// The format is what it is: another digest means files that programs before cannot read.
#[test]
fn the_bytes_are_those_of_version_1() {
    let bytes = encode(&sample()).unwrap();
    assert_eq!(bytes, encode(&sample()).unwrap());
    let digest = "981b9be8e1300b18501eb4176ee2f571fe3738c29e23362ee5fcdb68c6d8202d";
    assert_eq!(sha256_hex(&bytes), digest, "{} bytes", bytes.len());
}

#[test]
fn each_kind_of_tensor_takes_little() {
    let half = |index: u64| (noise(1, index) >> 16) as f64;
    let cases: [(&str, Tensor, f64); 9] = [
        ("one value throughout", floats(&[200, 100], |_| 0.3), 0.01),
        (
            "noise",
            floats(&[100, 100], |index| f64::from(f32::from_bits((noise(1, index) as u32) & 0xbfff_ffff))),
            32.1,
        ),
        ("normal numbers", floats(&[100, 100], |index| normal(1, index)), 26.8),
        (
            "numbers in bfloat16",
            floats(&[100, 100], |index| {
                f64::from(f32::from_bits((normal(1, index) as f32).to_bits() & 0xffff_0000))
            }),
            11.0,
        ),
        ("sixteen levels", integers(&[100, 100], |index| (noise(1, index) % 16) as i8 - 8), 4.07),
        (
            "normal integers of four bits",
            integers(&[100, 100], |index| (normal(1, index) * 2.0).round().clamp(-7.0, 7.0) as i8),
            3.15,
        ),
        (
            "normal integers of eight bits",
            integers(&[200, 100], |index| (normal(1, index) * 32.0).round().clamp(-127.0, 127.0) as i8),
            7.25,
        ),
        // The entropy of one in fifty is 0.141 bits.
        ("one in fifty", floats(&[200, 100], |index| if unit(1, index) < 0.02 { 0.5 } else { 0.0 }), 0.155),
        (
            "multiples",
            floats(&[100, 100], |index| f64::from(0.037f32 * ((half(index) % 8.0) as f32 - 4.0))),
            3.06,
        ),
    ];
    for (what, tensor, most) in cases {
        let found = bits_each(tensor);
        assert!(found < most, "{what}: {found} bits for each element, not {most}");
    }
}

#[test]
fn structure_is_found() {
    // Pixels at the border are dead, and so is every second unit.
    let dead = |index: u64| {
        let (input, unit) = (index / 50, index % 50);
        let (y, x) = (input / 28, input % 28);
        unit % 2 == 1 || !(6..22).contains(&x) || !(6..22).contains(&y)
    };
    let weights = floats(&[784, 50], |index| if !dead(index) && unit(1, index) < 0.15 { 0.5 } else { 0.0 });
    let values = weights.as_f32().unwrap();
    let share = values.iter().filter(|&&value| value != 0.0).count() as f64 / values.len() as f64;
    let entropy = -share * share.log2() - (1.0 - share) * (1.0 - share).log2();
    let found = bits_each(weights);
    assert!(found < 0.75 * entropy, "{found} bits of {entropy}");
}

#[test]
fn a_layer_tells_of_the_next() {
    let alive = |unit: u64| noise(9, unit).is_multiple_of(4);
    let first =
        floats(&[64, 400], |index| if alive(index % 400) && unit(1, index) < 0.3 { 0.5 } else { 0.0 });
    let second = floats(&[400, 4], |index| if alive(index / 4) && unit(2, index) < 0.3 { 0.5 } else { 0.0 });
    let bias = floats(&[400], |index| if alive(index) { 0.25 } else { 0.0 });
    let named = |name: &str, tensor: &Tensor| (name.to_owned(), tensor.clone());
    let all = [named("fc1.weight", &first), named("fc1.bias", &bias), named("fc2.weight", &second)];
    let together = round_trip(&all.clone().into()).len();
    let alone: usize = all.iter().map(|part| round_trip(&Weights::from([part.clone()])).len()).sum();
    // Each file alone has a beginning of its own, of some fifteen bytes, and 400 choices of one in four take forty.
    assert!(together + 2 * 15 + 35 < alone, "{together} bytes, and {alone} one by one");
}

#[test]
fn what_is_nearly_nothing_is_still_believed() {
    // 6 MB in a few bytes would look like a file that wants to fill the memory.
    let bytes = round_trip(&one(floats(&[1500, 1000], |_| 0.0)));
    assert!(bytes.len() as u64 * Limits::default().expansion >= 6_000_000);
    // Below 4 MiB nobody needs to be afraid.
    assert!(round_trip(&one(floats(&[1000, 1000], |_| 0.0))).len() < 30);
}

#[test]
fn each_limit_is_kept() {
    type Change = fn(&mut Limits);
    let bytes = encode(&sample()).unwrap();
    let cases: [(Change, &str); 6] = [
        (|limits| limits.record_bytes = 100, "size in bytes is"),
        (|limits| limits.tensors = 12, "number of tensors is 13, and the limit is 12"),
        (|limits| limits.tensor_bytes = 1439, "tensor `fc1.weight` in bytes is 1440, and the limit is 1439"),
        (|limits| limits.total_bytes = 1600, "sum of all tensors in bytes is"),
        (|limits| limits.name_bytes = 20, "longest name in bytes is"),
        (|limits| limits.rank = 7, "tensor `.weight` in dimensions is 8, and the limit is 7"),
    ];
    for (change, message) in cases {
        let mut limits = Limits::default();
        change(&mut limits);
        let error = decode(&bytes, &limits).unwrap_err();
        assert!(matches!(error, CodecError::Limit { .. }), "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

/// A file with this list of tensors and nothing behind it.
fn listing(entries: &[(&str, DType, &[usize])]) -> Vec<u8> {
    let entry = |&(name, dtype, shape): &(&str, DType, &[usize])| Entry {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
    };
    let entries: Vec<Entry> = entries.iter().map(entry).collect();
    let mut coder = Encoder::default();
    // The writer believes in itself; what it is told here is a lie.
    let _ = header::code(&mut coder, &entries, &Limits::unlimited(), u64::MAX);
    for _ in 0..8 {
        coder.uniform_wide(0, 64);
    }
    [MAGIC, &[VERSION][..], &coder.finish()].concat()
}

#[test]
fn hostile_lists_are_errors() {
    const F32: DType = DType::F32;
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("elements that overflow", listing(&[("a", F32, &[1 << 40, 1 << 40])]), "is impossible"),
        ("bytes that overflow", listing(&[("a", F32, &[1 << 62, 2])]), "is impossible"),
        ("a tensor too large", listing(&[("a", F32, &[1 << 33])]), "in bytes is 34359738368"),
        (
            "a small file of much",
            listing(&[("a", F32, &[5 << 20])]),
            "sum of all tensors in bytes is 20971520",
        ),
        ("a name twice", listing(&[("a.b", F32, &[1]), ("a.b", F32, &[1])]), "`a.b` is out of order"),
        ("another order", listing(&[("b", F32, &[1]), ("a", F32, &[1])]), "`a` is out of order"),
        ("no end", listing(&[("a", F32, &[1000])]), "the coded record is damaged"),
        ("nothing", vec![b'B', b'Z', b'C', 1], "the coded record's number of tensors is"),
    ];
    for (what, bytes, message) in cases {
        let error = decode(&bytes, &Limits::default()).expect_err(what).to_string();
        assert!(error.contains(message), "{what}: {error}");
    }
    let mut bytes = encode(&sample()).unwrap();
    bytes[3] = 2;
    assert_eq!(decode(&bytes, &Limits::default()).unwrap_err(), CodecError::Version { found: 2 });
    assert_eq!(decode(b"BZ", &Limits::default()).unwrap_err(), CodecError::Magic);
    let record = record::encode(&sample()).unwrap();
    assert_eq!(decode(&record, &Limits::default()).unwrap_err(), CodecError::Magic);
}

#[test]
fn every_truncation_and_every_byte_more_is_an_error() {
    let bytes = encode(&sample()).unwrap();
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length], &Limits::default()).is_err(), "{length} of {} bytes", bytes.len());
    }
    for more in [&[0][..], &[1], &[255], &[0; 4], &[0; 64], &bytes] {
        let longer = [&bytes, more].concat();
        assert!(decode(&longer, &Limits::default()).is_err(), "{} bytes more", more.len());
    }
}

/// Elements of one kind: how they are distributed, and with which numbers.
fn any_elements(count: usize) -> impl Strategy<Value = Elements> {
    let bits = || proptest::collection::vec(any::<u32>(), count);
    let palette = || proptest::collection::vec(any::<u32>(), 1..9);
    let picks = || proptest::collection::vec(0usize..64, count);
    let float = |bits: Vec<u32>| Elements::F32(bits.into_iter().map(f32::from_bits).collect());
    prop_oneof![
        bits().prop_map(float),
        (palette(), picks()).prop_map(move |(values, picks)| {
            float(picks.into_iter().map(|pick| values[pick % values.len()]).collect())
        }),
        (palette(), picks()).prop_map(move |(values, picks)| {
            float(picks.into_iter().map(|pick| values.get(pick).copied().unwrap_or(0)).collect())
        }),
        (any::<f32>(), picks()).prop_map(|(step, picks)| {
            Elements::F32(picks.into_iter().map(|pick| (pick as f32 - 20.0).max(0.0) * step).collect())
        }),
        bits().prop_map(|bits| Elements::I8(bits.into_iter().map(|bits| bits as i8).collect())),
        picks().prop_map(|picks| Elements::I8(picks.into_iter().map(|pick| (pick as i8 - 32) / 5).collect())),
        bits().prop_map(|bits| Elements::I64(bits.into_iter().map(|bits| i64::from(bits) << 20).collect())),
        bits().prop_map(|bits| Elements::U16(bits.into_iter().map(|bits| bits as u16).collect())),
        bits().prop_map(|bits| {
            Elements::F64(bits.into_iter().map(|bits| f64::from(f32::from_bits(bits))).collect())
        }),
    ]
}

fn any_weights() -> impl Strategy<Value = Weights> {
    let shape = prop_oneof![
        proptest::collection::vec(0usize..6, 0..5),
        (1usize..80, 1usize..12).prop_map(|(inputs, units)| vec![inputs, units]),
        (0usize..3, 1usize..9).prop_map(|(square, units)| vec![[64, 81, 100][square], units]),
    ];
    let tensor = shape.prop_flat_map(|shape| {
        let count = shape.iter().product();
        any_elements(count).prop_map(move |elements| Tensor::new(shape.clone(), elements).unwrap())
    });
    let name = prop_oneof!["[a-c]{1,2}[0-9]?\\.(weight|bias|scale)", ".{0,6}", "conv[0-9]{1,2}\\.weight"];
    proptest::collection::btree_map(name, tensor, 0..6)
}

proptest! {
    #[test]
    fn any_weights_come_back(weights in any_weights()) {
        let bytes = round_trip(&weights);
        prop_assert_eq!(encode(&weights).unwrap(), bytes);
    }

    #[test]
    fn mutated_bytes_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        weights in any_weights(),
    ) {
        let mut bytes = encode(&weights).unwrap();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(found) = decode(&bytes, &Limits::default()) {
            record::encode(&found).unwrap();
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let limits = Limits { total_bytes: 1 << 20, ..Limits::default() };
        let _ = decode(&bytes, &limits);
        let _ = decode(&[MAGIC, &[VERSION][..], &bytes].concat(), &limits);
    }
}
