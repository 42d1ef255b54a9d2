//! Unpacks the archive of CIFAR-10: the files it is known to hold, flat, and nothing else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

use super::catalogue::RemoteFile;
use super::error::FetchError;
use crate::data::hex;

/// What is needed, with the size that it has: 10,000 records of 3,073 bytes.
const NEEDED: [(&str, Option<u64>); 7] = [
    ("batches.meta.txt", None),
    ("data_batch_1.bin", Some(30_730_000)),
    ("data_batch_2.bin", Some(30_730_000)),
    ("data_batch_3.bin", Some(30_730_000)),
    ("data_batch_4.bin", Some(30_730_000)),
    ("data_batch_5.bin", Some(30_730_000)),
    ("test_batch.bin", Some(30_730_000)),
];
/// The list of names is a few dozen bytes.
const MAX_TEXT: u64 = 1 << 16;

/// Kept beside the files: from which archive they come and what they were then.
const RECEIPT: &str = "fetched.json";

#[derive(Serialize, Deserialize)]
struct Receipt {
    archive: String,
    archive_sha256: String,
    files: BTreeMap<String, String>,
}

/// Whether the folder still holds what was unpacked from the right archive.
pub(super) fn is_there(folder: &Path, file: &RemoteFile) -> bool {
    let Ok(text) = File::open(folder.join(RECEIPT)).and_then(|file| {
        let mut text = String::new();
        file.take(MAX_TEXT).read_to_string(&mut text).map(|_| text)
    }) else {
        return false;
    };
    let Ok(receipt) = serde_json::from_str::<Receipt>(&text) else { return false };
    receipt.archive_sha256 == file.check.sha256()
        && NEEDED.iter().all(|(name, _)| {
            let now = File::open(folder.join(name)).and_then(sha256);
            receipt.files.get(*name).is_some_and(|then| now.is_ok_and(|now| now == *then))
        })
}

/// Unpacks the verified archive in `folder` and removes it.
pub(super) fn unpack(folder: &Path, file: &RemoteFile) -> Result<(), FetchError> {
    unpack_needed(folder, file, &NEEDED)
}

pub(super) fn unpack_needed(
    folder: &Path,
    file: &RemoteFile,
    needed: &[(&'static str, Option<u64>)],
) -> Result<(), FetchError> {
    let path = folder.join(file.name);
    let problem = |problem: String| FetchError::Archive { archive: path.display().to_string(), problem };
    let broken = |error: std::io::Error| problem(format!("it cannot be unpacked: {error}"));
    // Everything is unpacked beside its place first, so that a damaged archive leaves nothing half done.
    let temporary = tempfile::tempdir_in(folder).map_err(FetchError::io(folder, "create a folder in it"))?;
    let packed =
        BufReader::with_capacity(1 << 16, File::open(&path).map_err(FetchError::io(&path, "open it"))?);
    let mut archive = Archive::new(GzDecoder::new(packed));
    let mut digests = BTreeMap::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        // Only the last part of the path is used, and only when it is one of the known names: no entry can
        // reach a place outside of the folder.
        let inside = entry.path().map_err(broken)?.into_owned();
        let name = inside.file_name().and_then(|name| name.to_str());
        let Some(&(name, size)) = needed.iter().find(|(known, _)| Some(*known) == name) else { continue };
        if entry.header().entry_type() != EntryType::Regular || digests.contains_key(name) {
            return Err(problem(format!("the entry `{}` is no file, or is there twice", inside.display())));
        }
        if size.map_or(entry.size() > MAX_TEXT, |size| size != entry.size()) {
            return Err(problem(format!(
                "the entry `{}` has {} bytes, which is not right",
                inside.display(),
                entry.size()
            )));
        }
        let place = temporary.path().join(name);
        let mut writer = File::create(&place).map_err(FetchError::io(&place, "create it"))?;
        std::io::copy(&mut entry, &mut writer).map_err(broken)?;
        writer.sync_all().map_err(FetchError::io(&place, "write it"))?;
        digests.insert(
            name.to_owned(),
            File::open(&place).and_then(sha256).map_err(FetchError::io(&place, "read it"))?,
        );
    }
    if let Some((name, _)) = needed.iter().find(|(name, _)| !digests.contains_key(*name)) {
        return Err(problem(format!("it has no file `{name}`")));
    }
    let receipt = Receipt {
        archive: file.name.to_owned(),
        archive_sha256: file.check.sha256().to_owned(),
        files: digests.clone(),
    };
    let text = serde_json::to_vec_pretty(&receipt).map_err(|error| problem(error.to_string()))?;
    std::fs::write(temporary.path().join(RECEIPT), text)
        .map_err(FetchError::io(temporary.path(), "write into it"))?;
    // The receipt comes last: with it the folder is complete.
    for name in digests.keys().map(String::as_str).chain([RECEIPT]) {
        let place: PathBuf = folder.join(name);
        std::fs::rename(temporary.path().join(name), &place)
            .map_err(FetchError::io(&place, "move a file there"))?;
    }
    std::fs::remove_file(&path).map_err(FetchError::io(&path, "remove it"))
}

fn sha256(mut file: File) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            len => digest.update(&buffer[..len]),
        }
    }
}
