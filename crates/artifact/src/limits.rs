//! How much a file may ask for before it is believed.

/// Bounds on what is read from a package. They are checked before memory is reserved, so that a hostile
/// or damaged file costs no more than they say; every one has a default that fits models of a gigabyte.
///
/// While a record is decoded its bytes and its tensors are in memory at once: at most
/// `record_bytes + total_bytes`, and what the tensors take never exceeds the size of the record. A coded record
/// (`codec`) may be smaller than its tensors by the factor `expansion`, and any number of times where they take
/// no more than 4 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest `manifest.json`, in bytes: 16 MiB.
    pub manifest_bytes: u64,
    /// Largest file of a package that is neither the manifest nor the record, in bytes: 256 MiB.
    pub file_bytes: u64,
    /// Largest record (`weights.bpk`), in bytes: 8 GiB.
    pub record_bytes: u64,
    /// Largest table of contents inside the record, in bytes: 8 MiB.
    pub record_header_bytes: u64,
    /// Largest number of tensors in a record: 16,384.
    pub tensors: usize,
    /// Largest tensor, in bytes: 4 GiB.
    pub tensor_bytes: u64,
    /// Largest sum over all tensors of a record, in bytes: 8 GiB.
    pub total_bytes: u64,
    /// Largest number of bytes that one byte of a coded record may become, where its tensors take more than 4 MiB:
    /// 1,024.
    pub expansion: u64,
    /// Longest name of a tensor, in bytes: 256.
    pub name_bytes: usize,
    /// Largest number of dimensions of a tensor: 8.
    pub rank: usize,
    /// Largest number of files in a package: 64.
    pub files: usize,
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest_bytes: 16 * MIB,
            file_bytes: 256 * MIB,
            record_bytes: 8 * GIB,
            record_header_bytes: 8 * MIB,
            tensors: 16_384,
            tensor_bytes: 4 * GIB,
            total_bytes: 8 * GIB,
            expansion: 1024,
            name_bytes: 256,
            rank: 8,
            files: 64,
        }
    }
}

impl Limits {
    /// Tensors of this size are believed of any coded record, in bytes.
    const ALWAYS: u64 = 4 * MIB;

    /// What the tensors of a coded record of `size` bytes may take.
    pub(crate) fn expanded(&self, size: u64) -> u64 {
        size.saturating_mul(self.expansion).max(Self::ALWAYS)
    }

    /// What is written need not be doubted.
    pub(crate) fn unlimited() -> Self {
        Self {
            manifest_bytes: u64::MAX,
            file_bytes: u64::MAX,
            record_bytes: u64::MAX,
            record_header_bytes: u64::MAX,
            tensors: usize::MAX,
            tensor_bytes: u64::MAX,
            total_bytes: u64::MAX,
            expansion: u64::MAX,
            name_bytes: usize::MAX,
            rank: usize::MAX,
            files: usize::MAX,
        }
    }
}
