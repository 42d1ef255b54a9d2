//! Round trips, limits, and records that somebody made to do harm.

use proptest::prelude::*;

use super::*;

fn weights(tensors: &[(&str, &[usize], f32)]) -> Weights {
    let tensor = |&(name, shape, start): &(&str, &[usize], f32)| {
        let count: usize = shape.iter().product();
        let values = (0..count).map(|index| start + index as f32 * 0.5).collect();
        (name.to_owned(), Tensor::from_f32(shape.to_vec(), values).unwrap())
    };
    tensors.iter().map(tensor).collect()
}

fn sample() -> Weights {
    weights(&[
        ("conv1.weight", &[2, 1, 3, 3], -1.0),
        ("conv1.bias", &[2], 0.25),
        ("dense1.weight", &[8, 3], 0.0),
        ("scale", &[], 3.0),
        ("empty", &[0, 4], 0.0),
    ])
}

#[test]
fn every_element_type_comes_back() {
    let elements = [
        Elements::F32(vec![-0.0, f32::MIN_POSITIVE, f32::MAX]),
        Elements::F64(vec![-0.0, 1e-300, f64::MAX]),
        Elements::I8(vec![-128, 0, 127]),
        Elements::I16(vec![i16::MIN, 0, i16::MAX]),
        Elements::I32(vec![i32::MIN, 0, i32::MAX]),
        Elements::I64(vec![i64::MIN, 0, i64::MAX]),
        Elements::U8(vec![0, 1, 255]),
        Elements::U16(vec![0, 1, u16::MAX]),
        Elements::U32(vec![0, 1, u32::MAX]),
        Elements::U64(vec![0, 1, u64::MAX]),
    ];
    for elements in elements {
        let tensor = Tensor::new(vec![3, 1], elements).unwrap();
        let weights = Weights::from([("layer.weight".to_owned(), tensor)]);
        let bytes = encode(&weights).unwrap();
        assert_eq!(decode(&bytes, &Limits::default()).unwrap(), weights);
        assert_eq!(entries(bytes, &Limits::default()).unwrap(), entries_of(&weights));
    }
    let bools = Tensor::new(vec![1], Elements::Bool(vec![true])).unwrap();
    let error = encode(&Weights::from([("mask".to_owned(), bools)])).unwrap_err();
    assert_eq!(error.to_string(), "tensor `mask` has elements of type BOOL, which a record cannot hold");
}

#[test]
fn equal_tensors_give_equal_bytes_with_stable_identities() {
    let bytes = encode(&sample()).unwrap();
    assert_eq!(bytes, encode(&sample()).unwrap());
    let tensors = Reader::from_bytes(Bytes::from_bytes_vec(bytes)).unwrap().into_tensors().unwrap();
    let bias = tensors.iter().find(|tensor| tensor.name == "conv1.bias").unwrap();
    assert_eq!(bias.param_id, Some(parameter_id("conv1.bias")));
    // Part of the format: a resumed optimizer finds its state by this number.
    assert_eq!(parameter_id("conv1.bias"), 0xddd5_3c41_c3e2_960f);
}

#[test]
fn an_empty_record_is_the_identity_model() {
    let bytes = encode(&Weights::new()).unwrap();
    assert_eq!(decode(&bytes, &Limits::default()).unwrap(), Weights::new());
}

type Change = fn(&mut Limits);

#[test]
fn each_limit_is_kept() {
    let bytes = encode(&sample()).unwrap();
    let cases: [(Change, &str); 7] = [
        (|limits| limits.record_bytes = 100, "size in bytes is"),
        (|limits| limits.record_header_bytes = 50, "table of contents in bytes is"),
        (|limits| limits.tensors = 4, "number of tensors is 5, and the limit is 4"),
        (|limits| limits.tensor_bytes = 95, "tensor `dense1.weight` in bytes is 96, and the limit is 95"),
        (|limits| limits.total_bytes = 100, "sum of all tensors in bytes is"),
        (|limits| limits.name_bytes = 11, "longest name in bytes is 12, and the limit is 11"),
        (|limits| limits.rank = 3, "tensor `conv1.weight` in dimensions is 4, and the limit is 3"),
    ];
    for (change, message) in cases {
        let mut limits = Limits::default();
        change(&mut limits);
        let error = decode(&bytes, &limits).unwrap_err();
        assert!(matches!(error, RecordError::Limit { .. }), "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn the_check_lists_what_does_not_fit() {
    let spec = serde_json::json!({
        "inputs": [{"name": "input", "shape": [4]}],
        "layers": [{"type": "dense", "name": "a", "units": 3}, {"type": "dense", "name": "b", "units": 2, "bias": false}],
    });
    let network = network::Network::new(serde_json::from_value(spec).unwrap()).unwrap();
    let good = weights(&[("a.weight", &[4, 3], 0.0), ("a.bias", &[3], 0.0), ("b.weight", &[3, 2], 0.0)]);
    check(&entries_of(&good), &network, None).unwrap();

    let bad = weights(&[("a.weight", &[3, 4], 0.0), ("a.bias", &[3], 0.0), ("b.bias", &[2], 0.0)]);
    let error = check(&entries_of(&bad), &network, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the record does not fit the network: missing `b.weight` [3, 2]; unknown `b.bias`; \
         different: `a.weight` is FP32 [3, 4] and must be FP32 [4, 3]"
    );
    let mut other = good.clone();
    other.insert("a.bias".to_owned(), Tensor::new(vec![3], Elements::I8(vec![0; 3])).unwrap());
    let error = check(&entries_of(&other), &network, None).unwrap_err();
    assert!(error.to_string().contains("`a.bias` is INT8 [3] and must be FP32 [3]"), "{error}");
}

#[test]
fn an_int8_layer_has_integers_and_scales() {
    let spec = serde_json::json!({
        "inputs": [{"name": "input", "shape": [2, 3, 3]}],
        "layers": [
            {"type": "conv2d", "name": "a", "channels": 3, "kernel": 3}, {"type": "flatten"},
            {"type": "dense", "name": "b", "units": 2},
        ],
    });
    let network = network::Network::new(serde_json::from_value(spec).unwrap()).unwrap();
    let plan = serde_json::json!({
        "layers": ["a"], "activations": {"input": {"scale": 1.0, "zero_point": 0}},
        "calibration": {"method": "min-max", "samples": 1, "split": "train", "seed": 0},
    });
    let plan: Quantization = serde_json::from_value(plan).unwrap();
    let found: Vec<String> = expected(&network, Some(&plan))
        .iter()
        .map(|Entry { name, dtype, shape }| format!("{name} {dtype} {shape:?}"))
        .collect();
    assert_eq!(
        found,
        [
            "a.weight INT8 [3, 2, 3, 3]",
            "a.bias FP32 [3]",
            "a.scale FP32 [3]",
            "b.weight FP32 [3, 2]",
            "b.bias FP32 [2]"
        ]
    );
    let floats = expected(&network, None);
    let error = check(&floats, &network, Some(&plan)).unwrap_err().to_string();
    assert!(error.contains("missing `a.scale` [3]; different: `a.weight` is FP32"), "{error}");
    let error = check(&expected(&network, Some(&plan)), &network, None).unwrap_err().to_string();
    assert!(error.contains("unknown `a.scale`; different: `a.weight` is INT8"), "{error}");
}

#[test]
fn numbers_that_are_not_finite_are_found() {
    check_finite(&sample()).unwrap();
    let mut bad = sample();
    bad.insert("x".to_owned(), Tensor::from_f32(vec![3], vec![0.0, f32::NAN, 1.0]).unwrap());
    let error = check_finite(&bad).unwrap_err();
    assert_eq!(error.to_string(), "tensor `x` holds a number that is not finite at index 1");
}

/// A container around a table of contents that the writer would never make.
fn container(metadata: &[u8], data: usize) -> Vec<u8> {
    let mut bytes = Header::new(u32::try_from(metadata.len()).unwrap()).into_bytes().to_vec();
    bytes.extend_from_slice(metadata);
    bytes.resize(burn_pack::aligned_data_section_start(metadata.len()) + data, 0);
    bytes
}

mod cbor {
    fn head(kind: u8, value: u64) -> Vec<u8> {
        let mut bytes = vec![kind << 5 | 27];
        bytes.extend(value.to_be_bytes());
        bytes
    }
    pub(super) fn number(value: u64) -> Vec<u8> {
        head(0, value)
    }
    pub(super) fn text(text: &str) -> Vec<u8> {
        [head(3, text.len() as u64), text.as_bytes().to_vec()].concat()
    }
    pub(super) fn array(items: &[Vec<u8>]) -> Vec<u8> {
        [head(4, items.len() as u64), items.concat()].concat()
    }
    pub(super) fn map(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let body: Vec<u8> =
            items.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
        [head(5, items.len() as u64), body].concat()
    }
    /// A length that is not there.
    pub(super) fn promise(kind: u8, length: u64) -> Vec<u8> {
        head(kind, length)
    }
}

fn table(tensors: &[(&str, &[u64], (u64, u64))]) -> Vec<u8> {
    let entries: Vec<(&str, Vec<u8>)> = tensors
        .iter()
        .map(|&(name, shape, (start, end))| {
            let shape: Vec<_> = shape.iter().map(|&size| cbor::number(size)).collect();
            let offsets = cbor::array(&[cbor::number(start), cbor::number(end)]);
            let entry = cbor::map(&[
                ("dtype", cbor::text("F32")),
                ("shape", cbor::array(&shape)),
                ("data_offsets", offsets),
            ]);
            (name, entry)
        })
        .collect();
    cbor::map(&[("tensors", cbor::map(&entries))])
}

#[test]
fn hostile_tables_of_contents_are_errors() {
    let limits = Limits::default();
    let good = container(&table(&[("a", &[2], (0, 8))]), 8);
    assert_eq!(decode(&good, &limits).unwrap().len(), 1);

    let names: Vec<String> = (0..64).map(|index| format!("t{index}")).collect();
    let shared: Vec<(&str, &[u64], (u64, u64))> =
        names.iter().map(|name| (name.as_str(), &[1024u64][..], (0, 4096))).collect();
    let cases = [
        ("elements that overflow", container(&table(&[("a", &[1 << 40, 1 << 40], (0, 8))]), 8)),
        ("more elements than bytes", container(&table(&[("a", &[1 << 33], (0, 8))]), 8)),
        ("a range beyond the end", container(&table(&[("a", &[1 << 20], (0, 4 << 20))]), 8)),
        ("a range backwards", container(&table(&[("a", &[2], (16, 8))]), 16)),
        ("a range that overflows", container(&table(&[("a", &[2], (u64::MAX - 8, u64::MAX))]), 8)),
        ("tensors that share their bytes", container(&table(&shared), 4096)),
        ("a list that is not there", container(&cbor::promise(4, u64::MAX), 0)),
        ("a map that is not there", container(&cbor::promise(5, u64::MAX), 0)),
        ("a text that is not there", container(&cbor::promise(3, 1 << 60), 0)),
        ("deep nesting", container(&[0x81; 100_000], 0)),
        ("no table", container(&[], 0)),
        ("nothing", Vec::new()),
    ];
    for (what, bytes) in cases {
        assert!(decode(&bytes, &limits).is_err(), "{what}");
        assert!(entries(bytes, &limits).is_err(), "{what}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = encode(&sample()).unwrap();
    for length in 0..bytes.len() {
        assert!(decode(&bytes[..length], &Limits::default()).is_err(), "{length} of {} bytes", bytes.len());
    }
}

fn any_weights() -> impl Strategy<Value = Weights> {
    let tensor = proptest::collection::vec(0usize..4, 0..5).prop_flat_map(|shape| {
        let count: usize = shape.iter().product();
        let bits = proptest::collection::vec(any::<u32>(), count);
        bits.prop_map(move |bits| {
            let values = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
            Tensor::from_f32(shape.clone(), values).unwrap()
        })
    });
    proptest::collection::btree_map("[a-z]{1,8}\\.[a-z]{1,8}", tensor, 0..6)
}

proptest! {
    #[test]
    fn round_trip(weights in any_weights()) {
        let bytes = encode(&weights).unwrap();
        let back = decode(&bytes, &Limits::default()).unwrap();
        prop_assert_eq!(encode(&back).unwrap(), bytes);
        prop_assert_eq!(entries_of(&back), entries_of(&weights));
    }

    #[test]
    fn mutated_bytes_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = encode(&sample()).unwrap();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(weights) = decode(&bytes, &Limits::default()) {
            encode(&weights).unwrap();
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), data in 0usize..600) {
        let _ = decode(&bytes, &Limits::default());
        let _ = decode(&container(&bytes, data), &Limits::default());
    }
}
