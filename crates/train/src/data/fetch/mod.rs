//! Fetches the data sets that are too large to come with the project, and believes no byte before its
//! digest is right. This is the only code in the project that reaches the network.
//!
//! A download lands in `<file>.part`, is resumed from there after an interruption, is verified, and only
//! then gets its name. Files that a person has already ([`Request::from`]) go the same way.

mod catalogue;
mod download;
mod error;
#[cfg(test)]
mod tests;
mod unpack;
mod verify;

use std::path::{Path, PathBuf};

use serde::Serialize;

pub use self::catalogue::Fetchable;
use self::catalogue::{Check, Item, RemoteFile};
pub use self::error::FetchError;

/// What is fetched, and from where.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which data set.
    pub dataset: Fetchable,
    /// The folder that holds a folder for each data set: `artifacts/data`.
    pub data: PathBuf,
    /// A folder with the files, instead of the network.
    pub from: Option<PathBuf>,
    /// The address of a folder with the files, instead of the official mirrors.
    pub mirror: Option<String>,
}

/// What happens meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A transfer begins, or begins again where it was interrupted.
    Begin {
        /// The file.
        file: String,
        /// Where it comes from.
        from: String,
        /// Bytes that an earlier run left.
        done: u64,
        /// Bytes in all, as far as that is known.
        total: Option<u64>,
    },
    /// So many bytes are there.
    Progress {
        /// Bytes in all so far.
        done: u64,
    },
    /// Something failed, and something else is tried.
    Retry {
        /// The file.
        file: String,
        /// What failed.
        reason: String,
    },
    /// A file is complete and verified.
    Verified {
        /// The file.
        file: String,
    },
}

/// What is there now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// The name that `data.source` takes.
    pub dataset: &'static str,
    /// The folder.
    pub folder: PathBuf,
    /// The files in it.
    pub files: Vec<FetchedFile>,
}

/// A file that is there now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FetchedFile {
    /// Its name.
    pub name: String,
    /// How it came.
    pub how: How,
    /// What its digest was compared with.
    pub verified: &'static str,
    /// The SHA-256 that was compared.
    pub sha256: String,
}

/// How a file came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It had been fetched before, and is still right.
    AlreadyThere,
    /// From the network.
    Downloaded,
    /// From a folder of this machine.
    Copied,
}

impl How {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AlreadyThere => "already there",
            Self::Downloaded => "downloaded",
            Self::Copied => "copied",
        }
    }
}

/// Fetches a data set.
///
/// # Errors
/// When no mirror answers, a digest is wrong, a file is missing in the given folder, or the disk refuses.
/// Parts of a download stay, and the next call goes on with them.
pub fn fetch(request: &Request, observe: &mut dyn FnMut(Event)) -> Result<Fetched, FetchError> {
    fetch_item(&request.dataset.item(), request, observe)
}

fn fetch_item(item: &Item, request: &Request, observe: &mut dyn FnMut(Event)) -> Result<Fetched, FetchError> {
    let folder = request.data.join(item.name);
    std::fs::create_dir_all(&folder).map_err(FetchError::io(&folder, "create it"))?;
    let mut files = Vec::new();
    for file in &item.files {
        let fetched = if item.unpack && unpack::is_there(&folder, file) {
            How::AlreadyThere
        } else {
            let how = fetch_file(item, file, &folder, request, observe)?;
            if item.unpack {
                unpack::unpack(&folder, file)?;
            }
            how
        };
        observe(Event::Verified { file: file.name.to_owned() });
        files.push(FetchedFile {
            name: file.name.to_owned(),
            how: fetched,
            verified: file.check.what(),
            sha256: file.check.sha256().to_owned(),
        });
    }
    Ok(Fetched { dataset: item.name, folder, files })
}

/// Brings one verified file into the folder.
fn fetch_file(
    item: &Item,
    file: &RemoteFile,
    folder: &Path,
    request: &Request,
    observe: &mut dyn FnMut(Event),
) -> Result<How, FetchError> {
    let target = folder.join(file.name);
    if target.is_file() {
        match verify::verify(&target, file) {
            Ok(()) => return Ok(How::AlreadyThere),
            // What is there is damaged and is replaced, once the right one is here.
            Err(error) => observe(Event::Retry { file: file.name.to_owned(), reason: error.to_string() }),
        }
    }
    let part = folder.join(format!("{}.part", file.name));
    let how = if let Some(from) = &request.from {
        copy(file, from, &part, observe)?;
        How::Copied
    } else {
        let mirrors: Vec<&str> = match &request.mirror {
            Some(mirror) => vec![mirror.as_str()],
            None => item.mirrors.to_vec(),
        };
        download::download(file, &mirrors, &part, observe)?;
        How::Downloaded
    };
    std::fs::rename(&part, &target).map_err(FetchError::io(&target, "move the verified file there"))?;
    Ok(how)
}

/// Copies a file of this machine, packed or not, and verifies the copy.
fn copy(
    file: &RemoteFile,
    from: &Path,
    part: &Path,
    observe: &mut dyn FnMut(Event),
) -> Result<(), FetchError> {
    let packed = from.join(file.name);
    let plain = from.join(file.name.trim_end_matches(".gz"));
    // What is verified by its content may be unpacked already; then it is packed again, under the one name.
    let (source, pack) = match file.check {
        _ if packed.is_file() => (packed, false),
        Check::Content(_) if plain.is_file() => (plain, true),
        _ => return Err(FetchError::NotInFolder { folder: from.to_owned(), file: file.name.to_owned() }),
    };
    let total = std::fs::metadata(&source).map_err(FetchError::io(&source, "read its size"))?.len();
    let begin = Event::Begin {
        file: file.name.to_owned(),
        from: source.display().to_string(),
        done: 0,
        total: Some(total),
    };
    observe(begin);
    if total > file.limit {
        return Err(FetchError::TooLarge { file: source.display().to_string(), limit: file.limit });
    }
    let mut reader = std::fs::File::open(&source).map_err(FetchError::io(&source, "open it"))?;
    let writer = std::fs::File::create(part).map_err(FetchError::io(part, "create it"))?;
    let copied = if pack {
        let mut packer = flate2::write::GzEncoder::new(writer, flate2::Compression::default());
        std::io::copy(&mut reader, &mut packer).and_then(|_| packer.finish())
    } else {
        let mut writer = writer;
        std::io::copy(&mut reader, &mut writer).map(|_| writer)
    };
    copied.and_then(|writer| writer.sync_all()).map_err(FetchError::io(part, "write it"))?;
    observe(Event::Progress { done: total });
    verify::verify(part, file).map_err(|error| {
        // A part that is wrong must not be resumed.
        let _ = std::fs::remove_file(part);
        error.named(&source)
    })
}
