//! Samples out of pairs of IDX files: images or other arrays with their class numbers.

use std::path::{Path, PathBuf};

use network::{Bitmap, RawInput};
use sha2::{Digest, Sha256};

use super::config::DataConfig;
use super::idx::{Element, IdxFile};
use super::opened::{Opened, class_names};
use super::source::{DataKind, Source, Target};
use super::split::Part;
use super::{DataError, hex};

/// One pair of files.
struct Pair {
    images: IdxFile,
    labels: Vec<u16>,
    part: Option<Part>,
}

/// The pairs of a data set, one after the other.
struct IdxSource {
    pairs: Vec<Pair>,
    len: usize,
    /// The value of white, when items are given as 8-bit pictures (rows × columns, × 1 or 3).
    white: Option<f32>,
}

impl IdxSource {
    fn find(&self, index: usize) -> Result<(&Pair, usize), DataError> {
        let mut rest = index;
        for pair in &self.pairs {
            if rest < pair.labels.len() {
                return Ok((pair, rest));
            }
            rest -= pair.labels.len();
        }
        Err(DataError::NoSuchSample { index, len: self.len })
    }
}

impl Source for IdxSource {
    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, index: usize) -> Result<RawInput, DataError> {
        let (pair, item) = self.find(index)?;
        let Some(white) = self.white else {
            return Ok(RawInput::Numbers(
                pair.images.item(item)?.into_iter().map(|value| value as f32).collect(),
            ));
        };
        let mut pixels = pair.images.item_bytes(item)?;
        if white != 255.0 {
            if let Some(value) = pixels.iter().find(|value| f32::from(**value) > white) {
                let problem = format!("a pixel of {value}, but pixels lie between 0 and {white}");
                return Err(DataError::file(&self.describe(index), problem));
            }
            pixels.iter_mut().for_each(|value| *value = (f32::from(*value) / white * 255.0).round() as u8);
        }
        let shape = pair.images.shape();
        let bitmap = Bitmap::new(shape[0], shape[1], shape.get(2).copied().unwrap_or(1), pixels);
        bitmap
            .map(RawInput::Bitmap)
            .ok_or_else(|| DataError::file(pair.images.name(), "the images have no size"))
    }

    fn target(&self, index: usize) -> Result<Target, DataError> {
        let (pair, item) = self.find(index)?;
        Ok(Target::Class(usize::from(pair.labels[item])))
    }

    fn describe(&self, index: usize) -> String {
        match self.find(index) {
            Ok((pair, item)) => format!("item {item} of {}", pair.images.name()),
            Err(error) => error.to_string(),
        }
    }
}

/// Opens pairs that are in memory: (name, images, labels).
pub(crate) fn open_embedded(
    name: &str,
    images: &[u8],
    labels: &[u8],
    max_value: f32,
    config: &DataConfig,
) -> Result<Opened, DataError> {
    let images = IdxFile::from_bytes(&format!("{name} images"), images)?;
    let labels = IdxFile::from_bytes(&format!("{name} labels"), labels)?;
    open_pairs(name, vec![(images, labels, None)], Some(max_value), None, config)
}

/// Opens the pairs of a folder, or one file of images beside its labels.
pub(crate) fn open_path(
    path: &Path,
    names: Option<&[String]>,
    config: &DataConfig,
) -> Result<Opened, DataError> {
    let found = find_pairs(path)?;
    let mut pairs = Vec::new();
    for (images, labels, part) in found {
        pairs.push((IdxFile::open(&images)?, IdxFile::open(&labels)?, part));
    }
    let name = path.file_name().map_or_else(|| "idx".into(), |name| name.to_string_lossy().into_owned());
    open_pairs(&name, pairs, config.image.max_value, names, config)
}

fn open_pairs(
    name: &str,
    files: Vec<(IdxFile, IdxFile, Option<Part>)>,
    max_value: Option<f32>,
    names: Option<&[String]>,
    config: &DataConfig,
) -> Result<Opened, DataError> {
    let mut digest = Sha256::new();
    let mut pairs: Vec<Pair> = Vec::new();
    for (images, labels, part) in files {
        images.digest(&mut digest)?;
        labels.digest(&mut digest)?;
        let numbers = labels.labels()?;
        if numbers.len() != images.items() {
            let problem =
                format!("{} labels for the {} items of {}", numbers.len(), images.items(), images.name());
            return Err(DataError::file(labels.name(), problem));
        }
        if let Some(first) = pairs.first().filter(|first| first.images.shape() != images.shape()) {
            let problem = format!(
                "items of shape {:?}, but {} has {:?}",
                images.shape(),
                first.images.name(),
                first.images.shape()
            );
            return Err(DataError::file(images.name(), problem));
        }
        pairs.push(Pair { images, labels: numbers, part });
    }
    let Some(first) = pairs.first() else {
        return Err(DataError::file(name, "no pair of image and label files"));
    };
    let (element, shape) = (first.images.element(), first.images.shape().to_vec());
    let layout = match *shape.as_slice() {
        [height, width] => Some((height, width, 1)),
        [height, width, channels @ (1 | 3)] => Some((height, width, channels)),
        _ => None,
    };
    let kind = match layout {
        Some((height, width, channels)) if element == Element::U8 || max_value.is_some() => {
            DataKind::Image { channels, height, width, max_value: max_value.unwrap_or(255.0) }
        }
        _ => DataKind::Numbers { shape: shape.clone() },
    };
    let highest = pairs.iter().flat_map(|pair| &pair.labels).max().copied().unwrap_or(0);
    let labels = class_names(name, config.classes.as_deref().or(names), usize::from(highest) + 1)?;
    let given = pairs.iter().flat_map(|pair| std::iter::repeat_n(pair.part, pair.labels.len())).collect();
    let len = pairs.iter().map(|pair| pair.labels.len()).sum();
    // Pictures of another range than 8 bits have are given in their own units, unless they must be resized.
    let white = match kind {
        DataKind::Image { channels, height, width, max_value }
            if element == Element::U8
                && max_value > 0.0
                && (max_value == 255.0 || config.image.change(channels, [height, width])) =>
        {
            Some(max_value)
        }
        _ => None,
    };
    let mut opened =
        Opened::new(name, IdxSource { pairs, len, white }, labels, kind, hex(&digest.finalize()));
    opened.given = given;
    Ok(opened)
}

/// The pairs of image and label files in a folder, sorted by name, with the part that their names tell
/// (`train-…`, `t10k-…`, `test-…`, `validation-…`); or the pair of one file of images.
fn find_pairs(path: &Path) -> Result<Vec<(PathBuf, PathBuf, Option<Part>)>, DataError> {
    let metadata = std::fs::metadata(path).map_err(DataError::io(path, "open it"))?;
    let (folder, only) =
        if metadata.is_dir() { (path, None) } else { (path.parent().unwrap_or(path), path.file_name()) };
    // A file given by its bare name has an empty parent.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DataError::io(folder, "list it"))? {
        let entry = entry.map_err(DataError::io(folder, "list it"))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    let find = |prefix: &str, role: Role| {
        // The plain file sorts before the gzipped one and is preferred: it is read faster.
        names.iter().find(|name| parse_name(name) == Some((prefix, role))).map(|name| folder.join(name))
    };
    let mut pairs: Vec<(PathBuf, PathBuf, Option<Part>)> = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    for name in &names {
        let Some((prefix, Role::Images)) = parse_name(name) else { continue };
        if done.contains(&prefix) || only.is_some_and(|only| only != name.as_str()) {
            continue;
        }
        done.push(prefix);
        let Some(labels) = find(prefix, Role::Labels) else {
            let problem =
                format!("there is no label file beside it; expected `{prefix}-labels-idx1-ubyte` or `….gz`");
            return Err(DataError::file(&folder.join(name).display().to_string(), problem));
        };
        let images = if only.is_some() { path.to_owned() } else { folder.join(name) };
        let part = if prefix == "t10k" { Some(Part::Test) } else { Part::parse(prefix) };
        pairs.push((images, labels, part));
    }
    if pairs.is_empty() {
        let problem = "no IDX files; expected pairs such as `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, \
                       plain or `.gz`";
        return Err(DataError::file(&path.display().to_string(), problem));
    }
    Ok(pairs)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Images,
    Labels,
}

/// `train-images-idx3-ubyte.gz` → (`train`, images).
fn parse_name(name: &str) -> Option<(&str, Role)> {
    let stem = name.strip_suffix(".gz").unwrap_or(name);
    for (word, role) in [("images", Role::Images), ("labels", Role::Labels)] {
        let Some((prefix, rest)) = stem.split_once(word) else { continue };
        let rest = rest.trim_start_matches(['-', '.']);
        if rest.strip_prefix("idx").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
            return Some((prefix.trim_end_matches(['-', '.', '_']), role));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::config::SourceKind;

    #[test]
    fn names_tell_prefix_and_role() {
        let cases = [
            ("train-images-idx3-ubyte.gz", Some(("train", Role::Images))),
            ("t10k-labels.idx1-ubyte", Some(("t10k", Role::Labels))),
            ("images-idx3-ubyte", Some(("", Role::Images))),
            ("images.zip", None),
            ("labels-index.txt", None),
            ("readme.md", None),
        ];
        for (name, expected) in cases {
            assert_eq!(parse_name(name), expected, "{name}");
        }
    }

    fn write(folder: &Path, name: &str, dims: &[u32], data: &[u8]) {
        let mut bytes = vec![0, 0, 8, dims.len() as u8];
        dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
        bytes.extend(data);
        std::fs::write(folder.join(name), bytes).unwrap();
    }

    #[test]
    fn a_folder_of_pairs_gives_the_parts_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let config = DataConfig::new(SourceKind::Idx);
        write(folder.path(), "train-images-idx3-ubyte", &[3, 1, 2], &[0, 1, 2, 3, 4, 5]);
        let error = open_path(folder.path(), None, &config).err().unwrap().to_string();
        assert!(
            error.contains("there is no label file beside it; expected `train-labels-idx1-ubyte`"),
            "{error}"
        );
        write(folder.path(), "train-labels-idx1-ubyte", &[3], &[0, 1, 2]);
        write(folder.path(), "t10k-images-idx3-ubyte", &[1, 1, 2], &[6, 7]);
        write(folder.path(), "t10k-labels-idx1-ubyte", &[1], &[1]);
        let opened = open_path(folder.path(), None, &config).unwrap();
        assert_eq!(opened.labels, ["0", "1", "2"]);
        // `t10k` sorts first.
        let parts = [Some(Part::Test), Some(Part::Train), Some(Part::Train), Some(Part::Train)];
        assert_eq!(opened.given, parts);
        assert_eq!(opened.source.target(3).unwrap(), Target::Class(2));
        let RawInput::Bitmap(bitmap) = opened.source.read(3).unwrap() else { panic!("a bitmap") };
        assert_eq!((bitmap.height(), bitmap.width(), bitmap.pixels()), (1, 2, &[4, 5][..]));
        assert!(opened.source.read(4).is_err());
        assert!(opened.source.describe(3).starts_with("item 2 of "));

        let single = open_path(&folder.path().join("train-images-idx3-ubyte"), None, &config).unwrap();
        assert_eq!(single.source.len(), 3);
        write(folder.path(), "t10k-labels-idx1-ubyte", &[2], &[1, 1]);
        let error = open_path(folder.path(), None, &config).err().unwrap().to_string();
        assert!(error.contains("2 labels for the 1 items"), "{error}");
    }

    #[test]
    fn images_of_8_bits_are_resized_and_other_arrays_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let labels: Vec<u8> = (0..40).map(|index| index % 2).collect();
        write(folder.path(), "images-idx3-ubyte", &[40, 2, 2], &[0, 4, 4, 0].repeat(40));
        write(folder.path(), "labels-idx1-ubyte", &[40], &labels);
        let mut config = DataConfig::new(SourceKind::Idx);
        config.path = Some(folder.path().to_owned());
        (config.image.size, config.image.channels) = (Some([4, 6]), Some(3));
        for max_value in [None, Some(4.0)] {
            config.image.max_value = max_value;
            let data = crate::data::load(&config, 1).unwrap();
            let preprocess = crate::data::fit_preprocess(&data, &config).unwrap();
            assert_eq!(preprocess.output_shape(), [3, 4, 6]);
            let RawInput::Bitmap(bitmap) = data.source.read(0).unwrap() else { panic!("a bitmap") };
            assert_eq!(bitmap.pixels()[1], if max_value.is_some() { 255 } else { 4 });
            assert_eq!(preprocess.prepare(&data.source.read(0).unwrap()).unwrap().len(), 72);
        }
        config.image.max_value = Some(3.0);
        let error = crate::data::load(&config, 1).unwrap_err().to_string();
        assert!(error.contains("item 0 of ") && error.contains("between 0 and 3"), "{error}");

        let mut bytes = vec![0, 0, 0x0d, 3];
        [40u32, 1, 2].iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
        bytes.extend([0.5f32.to_be_bytes(); 80].concat());
        std::fs::write(folder.path().join("images-idx3-ubyte"), bytes).unwrap();
        config.image.max_value = Some(1.0);
        let error = crate::data::load(&config, 1).unwrap_err().to_string();
        assert!(error.starts_with("`data.image`: ") && error.contains("not of 8 bits"), "{error}");
        config.image.max_value = None;
        let error = crate::data::load(&config, 1).unwrap_err().to_string();
        assert!(error.contains("arrays of shape [1, 2], which are no images"), "{error}");
        config.image = crate::data::config::ImageRules::default();
        crate::data::load(&config, 1).unwrap();
    }
}
