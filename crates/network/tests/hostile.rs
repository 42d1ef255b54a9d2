//! Whatever a file or a request holds, the answer is a value or an error: never a panic, never a huge
//! allocation.

use network::preprocess::{Fit, ImagePreprocess, decode_image};
use network::{Bitmap, Network, NetworkSpec, Preprocess, RawInput};
use proptest::prelude::*;

/// One layer with arbitrary numbers in it, as JSON.
fn layer() -> impl Strategy<Value = serde_json::Value> {
    let number = prop_oneof![4 => 0u64..6, 1 => 0u64..70, 1 => any::<u64>().prop_map(|n| n >> 1)];
    let kind = prop::sample::select(vec![
        "dense",
        "conv2d",
        "batch_norm",
        "layer_norm",
        "relu",
        "max_pool2d",
        "avg_pool2d",
        "global_avg_pool",
        "dropout",
        "flatten",
        "residual",
    ]);
    (kind, prop::collection::vec(number, 8)).prop_map(|(kind, n)| match kind {
        "dense" => serde_json::json!({"type": kind, "units": n[0]}),
        "conv2d" => {
            serde_json::json!({"type": kind, "channels": n[0], "kernel": [n[1], n[2]], "stride": n[3],
            "padding": [n[4], n[5]], "dilation": n[6], "groups": n[7].max(1)})
        }
        "max_pool2d" | "avg_pool2d" => {
            serde_json::json!({"type": kind, "kernel": n[0], "stride": [n[1], n[2]], "padding": n[3]})
        }
        "dropout" => serde_json::json!({"type": kind, "probability": n[0] as f64 / 6.0}),
        "residual" => {
            serde_json::json!({"type": kind, "body": [{"type": "conv2d", "channels": n[0], "kernel": n[1],
            "padding": n[2]}], "shortcut": []})
        }
        _ => serde_json::json!({"type": kind}),
    })
}

proptest! {
    #[test]
    fn any_specification_is_checked_without_a_panic(
        layers in prop::collection::vec(layer(), 0..6),
        shape in prop::collection::vec(prop_oneof![4 => 1usize..40, 1 => any::<usize>()], 0..5),
    ) {
        let json = serde_json::json!({"inputs": [{"name": "input", "shape": shape}], "layers": layers});
        let Ok(spec) = serde_json::from_value::<NetworkSpec>(json) else { return Ok(()) };
        if let Ok(network) = Network::new(spec) {
            prop_assert!(network.layers().iter().all(|layer| layer.output.iter().all(|&size| size > 0)));
            // What was checked once is accepted again and stays as it is.
            prop_assert_eq!(&Network::new(network.spec().clone()).unwrap(), &network);
        }
    }

    #[test]
    fn any_picture_is_brought_to_the_size(
        height in 1usize..40,
        width in 1usize..40,
        grey in any::<bool>(),
        seed in any::<u8>(),
        fit in prop::sample::select(vec![
            Fit::Stretch, Fit::Crop, Fit::Pad, Fit::DrawingCounts { grid: 32 }, Fit::DrawingCentered { inner: 6 },
        ]),
    ) {
        let channels = if grey { 1 } else { 3 };
        let pixels = (0..height * width * channels).map(|i| (i as u8).wrapping_mul(37) ^ seed).collect();
        let bitmap = Bitmap::new(height, width, channels, pixels).unwrap();
        let (mean, std) = (vec![0.5], vec![0.25]);
        let image = ImagePreprocess { channels: 1, height: 8, width: 8, max_value: 255.0, mean, std, fit };
        image.check().unwrap();
        let prepared = Preprocess::Image(image).prepare(&RawInput::Bitmap(bitmap)).unwrap();
        prop_assert_eq!(prepared.len(), 64);
        prop_assert!(prepared.iter().all(|value| (-2.0..=2.0).contains(value)));
    }

    #[test]
    fn any_bytes_after_an_image_header_are_survived(
        header in prop::sample::select(vec![b"\x89PNG\r\n\x1a\n".to_vec(), vec![0xff, 0xd8, 0xff, 0xe0]]),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = decode_image(&[header, rest].concat());
    }
}
