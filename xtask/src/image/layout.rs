//! The layout of an OCI image (image-spec 1.1): blobs by digest, and an index that names the manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use artifact::digest::sha256_hex;
use cli::{ErrorExt as _, usage_error};
use serde_json::{Value, json};

/// The files of a layout, by path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    files: BTreeMap<String, Vec<u8>>,
}

/// The digest of a blob as OCI writes it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256_hex(bytes))
}

impl Layout {
    /// Adds a blob; returns its descriptor.
    pub(crate) fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let (digest, size) = (digest(&bytes), bytes.len());
        self.files.insert(format!("blobs/{}", digest.replace(':', "/")), bytes);
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }

    /// Adds the index, which names the one manifest, and what marks the layout as one.
    pub(crate) fn finish(&mut self, mut manifest: Value, architecture: &str, tag: &str) {
        manifest["platform"] = json!({ "architecture": architecture, "os": "linux" });
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [manifest],
        });
        self.files.insert("index.json".to_owned(), index.to_string().into_bytes());
        self.files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> usize {
        self.files.values().map(Vec::len).sum()
    }

    /// Writes it as a directory, or as an archive where the name ends with `.tar`. What is there is replaced when it is an
    /// image as well.
    pub(crate) fn write(&self, output: &Path, time: u64) -> anyhow::Result<()> {
        let part = part(output);
        let cannot = || format!("cannot write {}", output.display());
        if let Some(folder) = output.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).with_context(cannot)?;
        }
        if is_archive(output) {
            let mut archive = tar::Builder::new(std::fs::File::create(&part).with_context(cannot)?);
            for (path, bytes) in &self.files {
                let mut header = tar::Header::new_ustar();
                header.set_mode(0o644);
                header.set_mtime(time);
                header.set_size(bytes.len() as u64);
                archive.append_data(&mut header, path, bytes.as_slice()).with_context(cannot)?;
            }
            archive.into_inner().with_context(cannot)?.sync_all().with_context(cannot)?;
            return std::fs::rename(&part, output).with_context(cannot);
        }
        for folder in [&part, &part.join("blobs/sha256")] {
            if folder == &part && folder.exists() {
                std::fs::remove_dir_all(folder).with_context(cannot)?;
            }
            std::fs::create_dir_all(folder).with_context(cannot)?;
        }
        for (path, bytes) in &self.files {
            std::fs::write(part.join(path), bytes).with_context(cannot)?;
        }
        if output.exists() {
            std::fs::remove_dir_all(output).with_context(cannot)?;
        }
        std::fs::rename(&part, output).with_context(cannot)
    }
}

/// Checks that nothing but an image would be replaced.
pub(crate) fn check_output(output: &Path) -> anyhow::Result<()> {
    if !is_archive(output) && output.exists() && !output.join("oci-layout").is_file() {
        return Err(usage_error(format!("{} is there and is no image", output.display())))
            .hint("name another --output");
    }
    Ok(())
}

fn is_archive(output: &Path) -> bool {
    output.extension().is_some_and(|extension| extension == "tar")
}

/// Where it is written before it is whole.
fn part(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    output.with_file_name(name)
}
