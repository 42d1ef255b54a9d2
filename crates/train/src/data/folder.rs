//! Image folders: one sub-folder of PNG and JPEG files per class, with or without `train`, `validation` and
//! `test` above them.
//!
//! Listing reads names and sizes only. The names lie in one string, so that a million files need some tens
//! of megabytes; an image is opened when its turn comes.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use network::RawInput;
use sha2::{Digest, Sha256};

use super::config::DataConfig;
use super::opened::Opened;
use super::probe::probe;
use super::source::{DataKind, Source, Target};
use super::split::Part;
use super::{DataError, hex};

/// An image file that is larger than this is none that anyone trains on.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Folders deeper than this are not looked into.
const MAX_CLASSES: usize = 100_000;

/// The files of a folder.
pub(super) struct FolderSource {
    root: PathBuf,
    /// The folders that hold images: relative path, class, part.
    folders: Vec<(PathBuf, u32, Option<Part>)>,
    /// All file names, one after the other.
    names: String,
    /// Per file: where its name ends in `names`, and its folder.
    files: Vec<(u64, u32)>,
}

impl FolderSource {
    pub(super) fn path(&self, index: usize) -> Option<PathBuf> {
        let &(end, folder) = self.files.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.files[before].0);
        let name = self.names.get(start as usize..end as usize)?;
        Some(self.root.join(&self.folders.get(folder as usize)?.0).join(name))
    }

    fn missing(&self, index: usize) -> DataError {
        DataError::NoSuchSample { index, len: self.files.len() }
    }
}

impl Source for FolderSource {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn read(&self, index: usize) -> Result<RawInput, DataError> {
        let path = self.path(index).ok_or_else(|| self.missing(index))?;
        let file = File::open(&path).map_err(DataError::io(&path, "open it"))?;
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(DataError::io(&path, "read it"))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            let problem = format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20);
            return Err(DataError::file(&path.display().to_string(), problem));
        }
        Ok(RawInput::EncodedImage(bytes.into()))
    }

    fn target(&self, index: usize) -> Result<Target, DataError> {
        let folder = self.files.get(index).and_then(|file| self.folders.get(file.1 as usize));
        folder.map(|folder| Target::Class(folder.1 as usize)).ok_or_else(|| self.missing(index))
    }

    fn describe(&self, index: usize) -> String {
        self.path(index).map_or_else(|| self.missing(index).to_string(), |path| path.display().to_string())
    }
}

/// Lists a folder and looks at some of its images to know their size.
pub(crate) fn open_path(root: &Path, config: &DataConfig) -> Result<Opened, DataError> {
    let (source, labels, sha256) = list(root)?;
    let (channels, [height, width]) = match (config.image.channels, config.image.size) {
        (Some(channels), Some(size)) => (channels, size),
        (channels, size) => {
            let found = probe(&source)?;
            let size = size.map_or_else(|| found.size(&root.display().to_string()), Ok)?;
            (channels.unwrap_or(found.channels), size)
        }
    };
    let given = source.files.iter().map(|file| source.folders[file.1 as usize].2).collect();
    let name = root.file_name().map_or_else(|| "folder".into(), |name| name.to_string_lossy().into_owned());
    let kind = DataKind::Image { channels, height, width, max_value: 255.0 };
    let mut opened = Opened::new(&name, source, labels, kind, sha256);
    opened.given = given;
    Ok(opened)
}

fn list(root: &Path) -> Result<(FolderSource, Vec<String>, String), DataError> {
    let top = folders_in(root)?;
    // `train` with nothing beside it but other parts: a class called `test` beside `cat` stays a class.
    let parts: Option<Vec<Part>> = top.iter().map(|name| Part::parse(name)).collect();
    let parts = parts.filter(|parts| parts.contains(&Part::Train));
    let mut classes: Vec<(PathBuf, String, Option<Part>)> = Vec::new();
    match parts {
        None => classes.extend(top.into_iter().map(|name| (PathBuf::from(&name), name, None))),
        Some(parts) => {
            for (folder, part) in top.iter().zip(parts) {
                let inside = folders_in(&root.join(folder))?;
                classes
                    .extend(inside.into_iter().map(|name| (Path::new(folder).join(&name), name, Some(part))));
            }
        }
    }
    let mut labels: Vec<String> = classes.iter().map(|(_, name, _)| name.clone()).collect();
    labels.sort_unstable();
    labels.dedup();
    if classes.is_empty() || labels.len() > MAX_CLASSES {
        let problem = format!(
            "{} class folders; expected one sub-folder of images per class: `{}/cat/1.jpg`, or `{}/train/cat/1.jpg`",
            labels.len(),
            root.display(),
            root.display()
        );
        return Err(DataError::file(&root.display().to_string(), problem));
    }
    let mut source =
        FolderSource { root: root.to_owned(), folders: Vec::new(), names: String::new(), files: Vec::new() };
    let mut digest = Sha256::new();
    for (folder, class, part) in classes {
        let before = source.files.len();
        let number = source.folders.len() as u32;
        for (name, size) in images_in(&root.join(&folder))? {
            digest.update(format!("{}/{name}\0{size}\n", folder.display()));
            source.names.push_str(&name);
            source.files.push((source.names.len() as u64, number));
        }
        if source.files.len() == before {
            let problem = "no PNG or JPEG file in this class folder; remove the folder, or add images";
            return Err(DataError::file(&root.join(&folder).display().to_string(), problem));
        }
        let label = labels.binary_search(&class).unwrap_or_default();
        source.folders.push((folder, label as u32, part));
    }
    for (index, label) in labels.iter().enumerate() {
        let learned = |folder: &&(PathBuf, u32, Option<Part>)| folder.1 as usize == index;
        if !source.folders.iter().filter(learned).any(|folder| matches!(folder.2, None | Some(Part::Train))) {
            let problem = format!("the class `{label}` has no folder under `train`, so it cannot be learned");
            return Err(DataError::file(&root.display().to_string(), problem));
        }
    }
    Ok((source, labels, hex(&digest.finalize())))
}

/// The sub-folders, sorted; hidden ones are passed over.
fn folders_in(path: &Path) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(DataError::io(path, "list it"))? {
        let entry = entry.map_err(DataError::io(path, "list it"))?;
        // A link to a folder is a folder.
        if std::fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir()) {
            names.extend(utf8(&entry)?.filter(|name| !name.starts_with('.')));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The PNG and JPEG files with their sizes, sorted by name.
fn images_in(path: &Path) -> Result<Vec<(String, u64)>, DataError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(DataError::io(path, "list it"))? {
        let entry = entry.map_err(DataError::io(path, "list it"))?;
        let Some(name) = utf8(&entry)? else { continue };
        let extension = Path::new(&name).extension().map(|extension| extension.to_ascii_lowercase());
        let image =
            extension.is_some_and(|extension| ["png", "jpg", "jpeg"].iter().any(|known| extension == *known));
        if !image || name.starts_with('.') {
            continue;
        }
        let metadata =
            std::fs::metadata(entry.path()).map_err(DataError::io(&entry.path(), "read its size"))?;
        if metadata.is_file() {
            names.push((name, metadata.len()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The name of an entry; one that is no UTF-8 is an error, because a report could not name it.
fn utf8(entry: &std::fs::DirEntry) -> Result<Option<String>, DataError> {
    entry.file_name().into_string().map(Some).map_err(|name| {
        DataError::file(
            &entry.path().display().to_string(),
            format!("the name {name:?} is not UTF-8; rename it"),
        )
    })
}

#[cfg(test)]
mod tests {
    use network::Task;

    use super::*;
    use crate::data::config::SourceKind;
    use crate::data::{fit_preprocess, load};

    fn save(path: &Path, width: u32, height: u32, shade: u8) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::RgbImage::from_pixel(width, height, image::Rgb([shade, 0, 0])).save(path).unwrap();
    }

    fn config(root: &Path) -> DataConfig {
        DataConfig { path: Some(root.to_owned()), ..DataConfig::new(SourceKind::Folder) }
    }

    #[test]
    fn classes_are_folders_and_sizes_may_differ() {
        let root = tempfile::tempdir().unwrap();
        for (index, class) in ["cat", "dog", "eel"].iter().cycle().take(60).enumerate() {
            let ending = ["png", "jpg", "JPEG"][index % 3];
            save(&root.path().join(format!("{class}/{index}.{ending}")), 8, 6, index as u8);
        }
        std::fs::write(root.path().join("cat/notes.txt"), "no image").unwrap();
        std::fs::write(root.path().join(".DS_Store"), "no folder").unwrap();
        let data = load(&config(root.path()), 1).unwrap();
        assert_eq!(
            (data.task, data.labels.join(" "), data.source.len()),
            (Task::MultiClass, "cat dog eel".into(), 60)
        );
        assert_eq!(data.kind, DataKind::Image { channels: 3, height: 6, width: 8, max_value: 255.0 });
        assert!(data.source.describe(59).contains("eel"));
        assert!(data.source.read(60).is_err() && data.source.target(60).is_err());

        save(&root.path().join("eel/large.png"), 20, 30, 9);
        let error = load(&config(root.path()), 1).unwrap_err().to_string();
        assert!(
            error.contains("images of different sizes (6×8 and 30×20") && error.contains("data.image.size"),
            "{error}"
        );
        let mut sized = config(root.path());
        sized.image.size = Some([5, 5]);
        let data = load(&sized, 1).unwrap();
        let preprocess = fit_preprocess(&data, &sized).unwrap();
        for index in 0..data.source.len() {
            assert_eq!(preprocess.prepare(&data.source.read(index).unwrap()).unwrap().len(), 75);
        }
    }

    #[test]
    fn parts_above_the_classes_are_honoured() {
        let root = tempfile::tempdir().unwrap();
        for (part, count) in [("train", 20), ("test", 5)] {
            for index in 0..count {
                for class in ["a", "b"] {
                    save(&root.path().join(format!("{part}/{class}/{index:02}.png")), 4, 4, index);
                }
            }
        }
        let data = load(&config(root.path()), 1).unwrap();
        assert_eq!((data.task, data.splits.test.len(), data.splits.train.len()), (Task::Binary, 10, 36));
        assert!(data.splits.test.iter().all(|&index| data.source.describe(index).contains("test")));
        save(&root.path().join("test/c/1.png"), 4, 4, 0);
        let error = load(&config(root.path()), 1).unwrap_err().to_string();
        assert!(
            error.ends_with("the class `c` has no folder under `train`, so it cannot be learned"),
            "{error}"
        );
    }

    #[test]
    fn refusals() {
        let root = tempfile::tempdir().unwrap();
        let open = || load(&config(root.path()), 1).unwrap_err().to_string();
        assert!(open().contains("0 class folders; expected one sub-folder of images per class"));
        std::fs::create_dir(root.path().join("cat")).unwrap();
        assert!(open().contains("no PNG or JPEG file in this class folder"));
        std::fs::write(root.path().join("cat/1.png"), b"not an image").unwrap();
        assert!(open().contains("1.png"), "{}", open());
        let missing = load(&config(&root.path().join("nowhere")), 1).unwrap_err();
        assert!(missing.to_string().ends_with("nowhere: cannot list it") && missing.hint().is_some());
    }

    #[test]
    fn a_damaged_image_is_named_when_its_turn_comes() {
        let root = tempfile::tempdir().unwrap();
        for index in 0..20 {
            save(&root.path().join(format!("{}/{index}.png", ["a", "b"][index % 2])), 4, 4, index as u8);
        }
        let mut sized = config(root.path());
        (sized.image.size, sized.image.channels) = (Some([4, 4]), Some(3));
        let good = load(&sized, 1).unwrap();
        let path = PathBuf::from(good.source.describe(good.splits.train[0]));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = fit_preprocess(&load(&sized, 1).unwrap(), &sized).unwrap_err().to_string();
        assert_eq!(error, format!("{} cannot be prepared", path.display()));
    }
}
