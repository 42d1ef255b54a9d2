//! The binary version of CIFAR-10 and CIFAR-100.
//!
//! ```text
//! CIFAR-10    <class> <1024 red> <1024 green> <1024 blue>            data_batch_1…5.bin, test_batch.bin
//! CIFAR-100   <coarse class> <fine class> <1024 red> <green> <blue>  train.bin, test.bin
//! ```

use std::path::{Path, PathBuf};

use network::{Bitmap, RawInput};
use sha2::{Digest, Sha256};

use super::config::{DataConfig, SourceKind};
use super::opened::{Opened, class_names};
use super::source::{DataKind, Source, Target};
use super::split::Part;
use super::store::Store;
use super::{DataError, hex};

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;

struct Batch {
    name: String,
    store: Store,
    labels: Vec<u8>,
    part: Part,
}

struct CifarSource {
    batches: Vec<Batch>,
    len: usize,
    /// Bytes before the pixels of a record.
    head: usize,
}

impl CifarSource {
    fn find(&self, index: usize) -> Result<(&Batch, usize), DataError> {
        let mut rest = index;
        for batch in &self.batches {
            if rest < batch.labels.len() {
                return Ok((batch, rest));
            }
            rest -= batch.labels.len();
        }
        Err(DataError::NoSuchSample { index, len: self.len })
    }
}

impl Source for CifarSource {
    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, index: usize) -> Result<RawInput, DataError> {
        let (batch, record) = self.find(index)?;
        let offset = (record * (self.head + PIXELS) + self.head) as u64;
        let planes = batch.store.read_at(offset, PIXELS)?;
        let (red, rest) = planes.split_at(planes.len().min(SIDE * SIDE));
        let (green, blue) = rest.split_at(rest.len().min(SIDE * SIDE));
        let pixels =
            red.iter().zip(green).zip(blue).flat_map(|((red, green), blue)| [*red, *green, *blue]).collect();
        let bitmap = Bitmap::new(SIDE, SIDE, 3, pixels);
        let problem = "the file became shorter while it was read";
        bitmap.map(RawInput::Bitmap).ok_or_else(|| DataError::bytes(&batch.name, offset, problem))
    }

    fn target(&self, index: usize) -> Result<Target, DataError> {
        let (batch, record) = self.find(index)?;
        Ok(Target::Class(usize::from(batch.labels[record])))
    }

    fn describe(&self, index: usize) -> String {
        match self.find(index) {
            Ok((batch, record)) => format!("record {record} of {}", batch.name),
            Err(error) => error.to_string(),
        }
    }
}

/// Which of the two data sets a folder holds, and how its records are read.
struct Format {
    /// Bytes before the pixels.
    head: usize,
    /// Which of them is the class.
    label: usize,
    classes: u8,
    names: &'static str,
}

/// Opens a folder of either data set.
pub(crate) fn open_path(path: &Path, config: &DataConfig) -> Result<Opened, DataError> {
    let (files, format) = files(path, config)?;
    let mut digest = Sha256::new();
    let mut batches = Vec::new();
    for (file, part) in files {
        let name = file.display().to_string();
        let store = Store::open(&file, announced)?;
        store.for_each_piece(|piece| digest.update(piece))?;
        let labels = labels(&name, &store, &format)?;
        batches.push(Batch { name, store, labels, part });
    }
    let names = names(&path.join(format.names))?;
    let labels = class_names(&path.display().to_string(), names.as_deref(), usize::from(format.classes))?;
    let given =
        batches.iter().flat_map(|batch| std::iter::repeat_n(Some(batch.part), batch.labels.len())).collect();
    let len = batches.iter().map(|batch| batch.labels.len()).sum();
    let kind = DataKind::Image { channels: 3, height: SIDE, width: SIDE, max_value: 255.0 };
    let name = if format.classes == 10 { "cifar10" } else { "cifar100" };
    let source = CifarSource { batches, len, head: format.head };
    let mut opened = Opened::new(name, source, labels, kind, hex(&digest.finalize()));
    opened.given = given;
    let citation = "A. Krizhevsky (2009). Learning Multiple Layers of Features from Tiny Images. \
                    https://www.cs.toronto.edu/~kriz/cifar.html";
    Ok(opened.with_origin(citation, "", false))
}

fn files(path: &Path, config: &DataConfig) -> Result<(Vec<(PathBuf, Part)>, Format), DataError> {
    let batches: Vec<PathBuf> = (1..=5)
        .map(|number| path.join(format!("data_batch_{number}.bin")))
        .filter(|file| file.is_file())
        .collect();
    let hundred = path.join("train.bin");
    let label = config.label.as_ref().map(|label| label.names());
    if !batches.is_empty() {
        if label.is_some() {
            return Err(DataError::config("label", "CIFAR-10 has one label for an image; remove this key"));
        }
        let mut files: Vec<_> = batches.into_iter().map(|file| (file, Part::Train)).collect();
        files.extend(
            Some(path.join("test_batch.bin")).filter(|file| file.is_file()).map(|file| (file, Part::Test)),
        );
        return Ok((files, Format { head: 1, label: 0, classes: 10, names: "batches.meta.txt" }));
    }
    if hundred.is_file() && config.source == SourceKind::Cifar {
        let format = match label {
            None => Format { head: 2, label: 1, classes: 100, names: "fine_label_names.txt" },
            Some([name]) if name == "fine" => {
                Format { head: 2, label: 1, classes: 100, names: "fine_label_names.txt" }
            }
            Some([name]) if name == "coarse" => {
                Format { head: 2, label: 0, classes: 20, names: "coarse_label_names.txt" }
            }
            Some(_) => {
                return Err(DataError::config("label", "CIFAR-100 has the labels `fine` and `coarse`"));
            }
        };
        let mut files = vec![(hundred, Part::Train)];
        files
            .extend(Some(path.join("test.bin")).filter(|file| file.is_file()).map(|file| (file, Part::Test)));
        return Ok((files, format));
    }
    let problem =
        "no CIFAR files; expected `data_batch_1.bin` … and `test_batch.bin`, or `train.bin` and `test.bin`";
    Err(DataError::file(&path.display().to_string(), problem))
}

/// The files announce no length. They may be gzipped, and then a file of the usual size is unpacked at most.
fn announced(_: &[u8]) -> Option<u64> {
    Some(50_000 * (2 + PIXELS as u64))
}

/// Reads the class of every record.
fn labels(name: &str, store: &Store, format: &Format) -> Result<Vec<u8>, DataError> {
    let record = (format.head + PIXELS) as u64;
    if store.len() == 0 || !store.len().is_multiple_of(record) {
        let whole = store.len() / record;
        let problem = format!(
            "the file has {} bytes, which is not a multiple of the {record} bytes of a record; it ends inside record {whole}",
            store.len()
        );
        return Err(DataError::bytes(name, whole * record, problem));
    }
    let mut labels = Vec::new();
    let mut offset = format.label as u64;
    while offset < store.len() {
        let class = store.read_at(offset, 1)?.first().copied().unwrap_or(u8::MAX);
        if class >= format.classes {
            let problem = format!("class {class}; expected 0 to {}", format.classes - 1);
            return Err(DataError::bytes(name, offset, problem));
        }
        labels.push(class);
        offset += record;
    }
    Ok(labels)
}

/// The class names beside the data, one a line; none when the file is not there.
fn names(path: &Path) -> Result<Option<Vec<String>>, DataError> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = Store::open(path, announced)?.read_at(0, 1 << 16)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(head: &[u8], shade: u8) -> Vec<u8> {
        let planes = [shade, shade + 1, shade + 2].into_iter().flat_map(|value| [value; SIDE * SIDE]);
        head.iter().copied().chain(planes).collect()
    }

    fn config() -> DataConfig {
        DataConfig::new(SourceKind::Cifar)
    }

    #[test]
    fn reads_both_data_sets() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("data_batch_1.bin"), [record(&[3], 10), record(&[9], 20)].concat()).unwrap();
        std::fs::write(at("test_batch.bin"), record(&[0], 30)).unwrap();
        std::fs::write(
            at("batches.meta.txt"),
            "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n",
        )
        .unwrap();
        let opened = open_path(folder.path(), &config()).unwrap();
        assert_eq!(opened.labels[3], "cat");
        assert_eq!(opened.given, [Some(Part::Train), Some(Part::Train), Some(Part::Test)]);
        assert_eq!(opened.source.target(1).unwrap(), Target::Class(9));
        let RawInput::Bitmap(bitmap) = opened.source.read(1).unwrap() else { panic!("a bitmap") };
        assert_eq!(&bitmap.pixels()[..6], [20, 21, 22, 20, 21, 22]);
        let small: DataConfig =
            toml::from_str("source = \"cifar\"\nimage = { size = [16, 8], channels = 1 }").unwrap();
        let opened = open_path(folder.path(), &small).unwrap().configured(&small).unwrap();
        assert_eq!(opened.kind, DataKind::Image { channels: 1, height: 16, width: 8, max_value: 255.0 });

        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("train.bin"), record(&[4, 72], 10)).unwrap();
        assert_eq!(open_path(folder.path(), &config()).unwrap().source.target(0).unwrap(), Target::Class(72));
        let coarse: DataConfig = toml::from_str("source = \"cifar\"\nlabel = \"coarse\"").unwrap();
        let opened = open_path(folder.path(), &coarse).unwrap();
        assert_eq!((opened.labels.len(), opened.source.target(0).unwrap()), (20, Target::Class(4)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_data_or_an_error(mut bytes in proptest::collection::vec(0u8..20, 0..7000), whole: bool) {
            if whole {
                bytes.resize(bytes.len().next_multiple_of(3073), 0);
            }
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("data_batch_2.bin"), &bytes).unwrap();
            std::fs::write(folder.path().join("batches.meta.txt"), &bytes[..bytes.len().min(50)]).unwrap();
            if let Ok(opened) = open_path(folder.path(), &config()) {
                for index in 0..=opened.source.len() {
                    let _ = (opened.source.read(index), opened.source.target(index), opened.source.describe(index));
                }
            }
        }
    }

    #[test]
    fn refusals_name_file_and_offset() {
        let cases: [(Vec<u8>, &str); 4] = [
            (vec![], "at byte 0: the file has 0 bytes"),
            (record(&[1], 0)[..100].to_vec(), "at byte 0: the file has 100 bytes"),
            ([record(&[1], 0), record(&[10], 0)].concat(), "at byte 3073: class 10; expected 0 to 9"),
            ([record(&[1], 0), vec![1]].concat(), "at byte 3073: the file has 3074 bytes"),
        ];
        for (bytes, message) in cases {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("data_batch_1.bin"), bytes).unwrap();
            let error = open_path(folder.path(), &config()).err().unwrap().to_string();
            assert!(error.contains(message) && error.contains("data_batch_1.bin"), "{error}");
        }
        let empty = tempfile::tempdir().unwrap();
        assert!(open_path(empty.path(), &config()).err().unwrap().to_string().contains("no CIFAR files"));
    }
}
