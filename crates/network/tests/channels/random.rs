//! Random networks without random channels.

use network::channels::{Groups, Removal};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{check, with};

/// Builds a network from numbers: each choice takes the next, and 0 when there are none left. Shorter and smaller
/// numbers are simpler networks, so failures shrink.
struct Builder {
    choices: std::vec::IntoIter<u8>,
    depth: usize,
}

impl Builder {
    fn next(&mut self, below: usize) -> usize {
        usize::from(self.choices.next().unwrap_or(0)) % below
    }

    fn conv(&mut self, channels: usize) -> Value {
        let kernel = [1, 3][self.next(2)];
        json!({"type": "conv2d", "channels": channels, "kernel": kernel, "padding": kernel / 2,
            "bias": self.next(2) == 0})
    }

    /// A convolution in groups, and the channels that it gives.
    fn grouped(&mut self, channels: usize) -> (Value, usize) {
        let divisors: Vec<usize> =
            (1..=channels).filter(|divisor| channels.is_multiple_of(*divisor)).collect();
        let groups = divisors[self.next(divisors.len())];
        let outputs = groups * (1 + self.next(2));
        (json!({"type": "conv2d", "channels": outputs, "kernel": 3, "padding": 1, "groups": groups}), outputs)
    }

    fn shortcut(&mut self, channels: usize) -> Vec<Value> {
        let mut layers = vec![self.conv(channels)];
        if self.next(2) == 1 {
            layers.push(json!({"type": "batch_norm"}));
        }
        layers
    }

    /// Layers that keep the size of an image, and the channels behind them.
    fn image(&mut self, mut channels: usize, count: usize) -> (Vec<Value>, usize) {
        let mut layers = Vec::new();
        for _ in 0..count {
            match self.next(9) {
                0 => {
                    channels = 1 + self.next(6);
                    layers.push(self.conv(channels));
                }
                1 => layers.push(json!({"type": "batch_norm"})),
                2 => layers.push(json!({"type": (["relu", "sigmoid", "gelu", "dropout"][self.next(4)])})),
                3 => {
                    let (layer, outputs) = self.grouped(channels);
                    channels = outputs;
                    layers.push(layer);
                }
                4 | 5 if self.depth < 2 => {
                    self.depth += 1;
                    let length = 1 + self.next(3);
                    let (mut body, inner) = self.image(channels, length);
                    self.depth -= 1;
                    // The identity wants the channels that came; a projection takes any.
                    let shortcut = if self.next(2) == 0 {
                        if inner != channels {
                            body.push(self.conv(channels));
                        }
                        Vec::new()
                    } else {
                        channels = inner;
                        self.shortcut(inner)
                    };
                    layers.push(json!({"type": "residual", "body": body, "shortcut": shortcut}));
                }
                6 => layers.push(json!({"type": "max_pool2d", "kernel": 3, "stride": 1, "padding": 1})),
                7 => layers.push(json!({"type": "avg_pool2d", "kernel": 3, "stride": 1, "padding": 1})),
                _ => layers.push(json!({"type": "layer_norm"})),
            }
        }
        for layer in layers.iter_mut().filter(|layer| layer["type"] == "dropout") {
            layer["probability"] = json!(0.5);
        }
        (layers, channels)
    }

    /// Layers of features, ending in an answer.
    fn features(&mut self, count: usize, widths: &mut usize) -> Vec<Value> {
        let mut layers = Vec::new();
        for _ in 0..count {
            match self.next(4) {
                0 => {
                    *widths = 1 + self.next(5);
                    layers.push(json!({"type": "dense", "units": widths, "bias": self.next(2) == 0}));
                }
                1 => {
                    layers.push(json!({"type": (["batch_norm", "layer_norm", "relu", "tanh"][self.next(4)])}))
                }
                _ => {
                    let inner = json!({"type": "dense", "units": 1 + self.next(4)});
                    let back = json!({"type": "dense", "units": widths});
                    layers.push(json!({"type": "residual", "body": [inner, {"type": "silu"}, back]}));
                }
            }
        }
        layers
    }
}

/// A network of images, then of features; sometimes with a second answer taken from the middle.
fn build(choices: Vec<u8>) -> network::Network {
    let mut builder = Builder { choices: choices.into_iter(), depth: 0 };
    let (first, [height, width]) = (1 + builder.next(3), [3, 4]);
    let count = 1 + builder.next(6);
    let (mut layers, channels) = builder.image(first, count);
    let middle = layers.len() - 1;
    layers[middle]["name"] = json!("middle");
    let pooled = builder.next(3);
    layers.push(json!({"type": (["flatten", "global_avg_pool", "global_max_pool"][pooled])}));
    let mut widths = if pooled == 0 { channels * height * width } else { channels };
    let count = builder.next(4);
    layers.extend(builder.features(count, &mut widths));
    layers.push(json!({"type": "dense", "units": 3, "name": "answer"}));
    let mut outputs = vec![json!({"name": "answer", "from": "answer"})];
    if builder.next(2) == 1 {
        layers.push(json!({"type": "conv2d", "channels": 2, "kernel": 1, "from": ["middle"]}));
        layers.push(json!({"type": "flatten", "name": "second"}));
        outputs.push(json!({"name": "second", "from": "second"}));
    }
    with(&[first, height, width], json!(layers), json!(outputs))
}

proptest! {
    #[test]
    fn any_network_without_any_channels_computes_the_same(
        choices in prop::collection::vec(any::<u8>(), 0..80),
        share in 1u64..4,
        seed in 0u64..1000,
    ) {
        let network = build(choices);
        let mut state = seed | 1;
        let mut lot = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) % 4 < share
        };
        let mut removal = Removal::new();
        for group in Groups::of(&network).groups {
            let mut removed: Vec<usize> = (0..group.channels).filter(|_| lot()).collect();
            removed.truncate(group.channels - 1);
            removal.insert(group.name, removed);
        }
        let smaller = check(&network, &removal, seed);
        // What is left has the same groups. Where one channel is left, it may be several filters that nothing ties
        // any more.
        let left = Groups::of(&smaller);
        for group in Groups::of(&network).groups {
            let kept = group.channels - removal[&group.name].len();
            let found = left.get(&group.name).map_or(1, |group| group.channels);
            prop_assert!(found == kept || kept == 1, "{}: {found} and not {kept}", group.name);
        }
        prop_assert!(removal.values().all(Vec::is_empty) || smaller.macs() < network.macs());
    }
}
