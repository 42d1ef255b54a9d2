//! What flows between layers: a float tensor whose rank is known only at run time.

use burn::tensor::{Device, Tensor, TensorData};

use crate::hook::TensorMap;
use crate::precision::Precision;

/// A batch of samples: `[batch, …]` with one to four dimensions after the batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[allow(missing_docs, reason = "one variant per rank")]
pub enum Value {
    Rank2(Tensor<2>),
    Rank3(Tensor<3>),
    Rank4(Tensor<4>),
    Rank5(Tensor<5>),
}

/// Applies one expression to the tensor inside, whatever its rank, and wraps the result in the same rank.
macro_rules! same_rank {
    ($value:expr, $tensor:ident => $result:expr) => {
        match $value {
            $crate::value::Value::Rank2($tensor) => $crate::value::Value::Rank2($result),
            $crate::value::Value::Rank3($tensor) => $crate::value::Value::Rank3($result),
            $crate::value::Value::Rank4($tensor) => $crate::value::Value::Rank4($result),
            $crate::value::Value::Rank5($tensor) => $crate::value::Value::Rank5($result),
        }
    };
}
/// Applies one expression to the tensor inside, whatever its rank.
macro_rules! any_rank {
    ($value:expr, $tensor:ident => $result:expr) => {
        match $value {
            $crate::value::Value::Rank2($tensor) => $result,
            $crate::value::Value::Rank3($tensor) => $result,
            $crate::value::Value::Rank4($tensor) => $result,
            $crate::value::Value::Rank5($tensor) => $result,
        }
    };
}
pub(crate) use {any_rank, same_rank};

impl Value {
    /// A batch from its values in row-major order; `None` when `shape` has fewer than two or more than
    /// five dimensions or does not fit the number of values.
    #[must_use]
    pub fn from_vec(values: Vec<f32>, shape: &[usize], device: &Device) -> Option<Self> {
        Self::from_vec_as(values, shape, device, Precision::F32)
    }

    /// As [`Value::from_vec`], rounded to `precision` on the host.
    #[must_use]
    pub fn from_vec_as(
        values: Vec<f32>,
        shape: &[usize],
        device: &Device,
        precision: Precision,
    ) -> Option<Self> {
        if network::element_count(shape) != Some(values.len()) {
            return None;
        }
        let tensor = Maker { device, precision };
        match *shape {
            [a, b] => Some(Self::Rank2(tensor.make(values, [a, b]))),
            [a, b, c] => Some(Self::Rank3(tensor.make(values, [a, b, c]))),
            [a, b, c, d] => Some(Self::Rank4(tensor.make(values, [a, b, c, d]))),
            [a, b, c, d, e] => Some(Self::Rank5(tensor.make(values, [a, b, c, d, e]))),
            _ => None,
        }
    }

    /// The dimensions, the batch first.
    #[must_use]
    pub fn shape(&self) -> Vec<usize> {
        any_rank!(self, tensor => tensor.dims().to_vec())
    }

    /// The device that holds it.
    #[must_use]
    pub fn device(&self) -> Device {
        any_rank!(self, tensor => tensor.device())
    }

    /// Applies one operation to the tensor inside, whatever its rank.
    #[must_use]
    pub fn map(self, map: impl TensorMap) -> Self {
        same_rank!(self, tensor => map.apply(tensor))
    }

    /// One row per sample: `[batch, everything else]`.
    #[must_use]
    pub fn flatten(self) -> Tensor<2> {
        match self {
            Self::Rank2(tensor) => tensor,
            Self::Rank3(tensor) => tensor.flatten(1, 2),
            Self::Rank4(tensor) => tensor.flatten(1, 3),
            Self::Rank5(tensor) => tensor.flatten(1, 4),
        }
    }

    /// The values in row-major order, copied to the host as 32-bit floats whatever they are on the device.
    ///
    /// # Errors
    /// When the device cannot be read; the message is the device's.
    pub fn into_vec(self) -> Result<Vec<f32>, String> {
        any_rank!(self, tensor => tensor.try_into_vec_as::<f32>().map_err(|error| format!("{error:?}")))
    }
}

/// Makes tensors of one precision on one device.
#[derive(Clone, Copy)]
pub(crate) struct Maker<'a> {
    pub(crate) device: &'a Device,
    pub(crate) precision: Precision,
}

impl Maker<'_> {
    /// The precision is named with every tensor: a device's default could be changed by whoever came first.
    pub(crate) fn make<const D: usize>(self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), (self.device, self.precision.dtype()))
    }
}

impl From<Tensor<2>> for Value {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Rank2(tensor)
    }
}

impl From<Tensor<3>> for Value {
    fn from(tensor: Tensor<3>) -> Self {
        Self::Rank3(tensor)
    }
}

impl From<Tensor<4>> for Value {
    fn from(tensor: Tensor<4>) -> Self {
        Self::Rank4(tensor)
    }
}

impl From<Tensor<5>> for Value {
    fn from(tensor: Tensor<5>) -> Self {
        Self::Rank5(tensor)
    }
}
