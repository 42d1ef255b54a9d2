//! Which algorithm a convolution runs by: decided from its shape alone, so that it is the same on every machine
//! of a tier and for every batch.

use crate::graph::Conv;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// Products at every tap.
    Direct,
    /// One channel per group: a window per channel.
    Depthwise,
    /// Tiles of `size×size` inputs give `outputs×outputs` outputs.
    Winograd { size: usize, outputs: usize },
}

/// The cost of Winograd's transforms, in multiply–accumulates of whole vectors per tile and vector of channels:
/// on the way in and on the way out. Measured against the product on AVX-512.
const TRANSFORM_6: [usize; 2] = [180, 150];
const TRANSFORM_4: [usize; 2] = [60, 50];

/// The cheapest algorithm by the number of vector operations.
pub(crate) fn algorithm(
    conv: &Conv,
    input: [usize; 3],
    output: [usize; 2],
    lanes: usize,
    winograd: bool,
) -> Algorithm {
    if conv.groups > 1 && conv.per_group == 1 && conv.channels == conv.groups {
        return Algorithm::Depthwise;
    }
    let fits = conv.groups == 1 && conv.stride == [1, 1] && conv.dilation == [1, 1];
    let kernel = conv.kernel;
    if !winograd || !fits || kernel[0] != kernel[1] || input[0] < 8 || conv.channels < 8 {
        return Algorithm::Direct;
    }
    let (read, written) = (input[0].div_ceil(lanes), conv.channels.div_ceil(lanes));
    let direct = output[0] * output[1] * kernel[0] * kernel[1] * input[0] * written;
    let mut best = (direct, Algorithm::Direct);
    let forms: &[(usize, usize, [usize; 2])] = match kernel[0] {
        3 => &[(6, 4, TRANSFORM_6), (4, 2, TRANSFORM_4)],
        5 => &[(6, 2, TRANSFORM_6)],
        _ => &[],
    };
    for &(size, outputs, [way_in, way_out]) in forms {
        let tiles = output[0].div_ceil(outputs) * output[1].div_ceil(outputs);
        let products = size * size * input[0] * written;
        let cost = tiles * (products + way_in * read + way_out * written);
        if cost < best.0 {
            best = (cost, Algorithm::Winograd { size, outputs });
        }
    }
    best.1
}
