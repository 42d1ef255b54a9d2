//! Changes of the keys file: a key more, a key less. The file appears whole or not at all, its comments stay, and two
//! changes at a time wait for each other.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Instant;

use super::files::{self, FileFault};
use super::keys::{self, KeyEntry, Keys};
use super::secret::Secret;
use crate::error::shown;

/// Makes a key and adds it to the file, which is made where there is none. The key itself is nowhere but in what is
/// returned; `entry.hash` is filled in here.
///
/// # Errors
/// Why the file cannot be changed, or the entry cannot be.
pub fn add(file: &Path, entry: KeyEntry) -> Result<Secret, FileFault> {
    let key = keys::generate().map_err(|why| FileFault::new(file, why))?;
    let entry = KeyEntry { hash: keys::hash(key.expose()), ..entry };
    edit(file, true, |text| {
        let text = if text.trim().is_empty() { HEAD } else { text };
        let block = toml::to_string(&entry).map_err(|error| error.to_string())?;
        let gap = if text.ends_with('\n') { "\n" } else { "\n\n" };
        Ok(format!("{text}{gap}[[key]]\n{block}"))
    })?;
    Ok(key)
}

const HEAD: &str = "# Who may do what: keys by their digests. `serve key new`, `list` and `revoke` change it.\nversion = 1\n";

/// Takes a key out of the file.
///
/// # Errors
/// When it is not there, or the file cannot be changed.
pub fn revoke(file: &Path, name: &str) -> Result<(), FileFault> {
    edit(file, false, |text| {
        let before = Keys::parse(text, Instant::now())?;
        if !before.entries().iter().any(|entry| entry.name == name) {
            return Err(format!("it has no key {}", shown(name)));
        }
        let without = without(text, name);
        let after = Keys::parse(&without, Instant::now())?;
        let others = before.entries().iter().filter(|entry| entry.name != name);
        if !after.entries().iter().eq(others) {
            return Err(format!("its form is unusual; take the entry {} out by hand", shown(name)));
        }
        Ok(without)
    })
}

/// The text without the block of a key. Blocks begin with a line in double brackets.
fn without(text: &str, name: &str) -> String {
    let mut blocks: Vec<Vec<&str>> = vec![Vec::new()];
    for line in text.split_inclusive('\n') {
        let Some(block) = blocks.last_mut() else { break };
        if !line.trim_start().starts_with("[[") {
            block.push(line);
            continue;
        }
        // Comments before a block are about it.
        let aside = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
        let own = block.iter().rposition(|line| !aside(line)).map_or(0, |last| last + 1);
        let mut next = block.split_off(own);
        next.push(line);
        blocks.push(next);
    }
    let blocks = blocks.into_iter().map(|block| block.concat());
    let is_it = |block: &str| {
        let head = block.contains("[[key]]");
        let parsed = Keys::parse(&format!("version = 1\n{block}"), Instant::now());
        head && parsed.is_ok_and(|keys| keys.entries().iter().any(|entry| entry.name == name))
    };
    blocks.filter(|block| !is_it(block)).collect()
}

fn edit(
    file: &Path,
    create: bool,
    change: impl FnOnce(&str) -> Result<String, String>,
) -> Result<(), FileFault> {
    let fault =
        |error: &dyn std::fmt::Display| FileFault::new(file, format!("it cannot be changed: {error}"));
    let _lock = lock(file).map_err(|error| fault(&error))?;
    let text = if create && !file.exists() { String::new() } else { files::read_text(file)? };
    let next = change(&text).map_err(|why| FileFault::new(file, why))?;
    Keys::parse(&next, Instant::now()).map_err(|why| FileFault::new(file, why))?;
    let before = std::fs::metadata(file).ok();
    let mode = before.as_ref().map_or(0o600, |seen| seen.permissions().mode());
    // It is never seen with other rights than it is to have, not even after a crash.
    let written = artifact::atomic::write_with(file, |new| {
        new.set_permissions(Permissions::from_mode(mode))?;
        if let Some(before) = &before {
            keep_owner(new, before)?;
        }
        new.write_all(next.as_bytes())
    });
    written.map_err(|error| fault(&error))
}

/// Gives the new file to the owner of the old one: who changes it by `sudo` must not take it from the server.
fn keep_owner(new: &File, before: &Metadata) -> std::io::Result<()> {
    let made = new.metadata()?;
    if (made.uid(), made.gid()) == (before.uid(), before.gid()) {
        return Ok(());
    }
    match std::os::unix::fs::fchown(new, Some(before.uid()), Some(before.gid())) {
        // Not everybody may give files away; then it belongs to who changed it, as after any editor.
        Err(error) if error.kind() != ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

/// A file beside it that is held while it changes; the file itself is replaced, so it cannot be held.
fn lock(file: &Path) -> std::io::Result<File> {
    let mut name = file.as_os_str().to_owned();
    name.push(".lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(name)?;
    lock.lock()?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::principal::Scope;

    fn entry(name: &str) -> KeyEntry {
        KeyEntry {
            name: name.to_owned(),
            hash: String::new(),
            scopes: vec![Scope::Infer, Scope::Read],
            models: vec!["digits".to_owned()],
            expires: Some("2030-01-01T00:00:00Z".to_owned()),
            rate: Some(2.5),
            burst: None,
            created: None,
        }
    }

    fn names(file: &Path) -> Vec<String> {
        let keys = Keys::parse(&std::fs::read_to_string(file).unwrap(), Instant::now()).unwrap();
        keys.entries().iter().map(|entry| entry.name.clone()).collect()
    }

    #[test]
    fn keys_come_and_go_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.toml");
        let a = add(&file, entry("a")).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&a.expose()[4..]), "the file has the digest alone");
        std::fs::write(
            &file,
            format!(
                "{text}\n# of somebody\n[[certificate]]\nname = \"c\"\nsan = \"c.x\"\nscopes = [\"read\"]\n"
            ),
        )
        .unwrap();
        let b = add(&file, entry("b")).unwrap();
        assert_eq!(names(&file), ["a", "b"]);
        let keys = Keys::parse(&std::fs::read_to_string(&file).unwrap(), Instant::now()).unwrap();
        assert_eq!(keys.find(a.expose()).unwrap().name, "a");
        assert_eq!(keys.find(b.expose()).unwrap().name, "b");
        for (name, part) in [("a", "the same `name`"), ("a b", "`name` must be")] {
            let error = add(&file, entry(name)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        revoke(&file, "a").unwrap();
        assert_eq!(names(&file), ["b"]);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("# of somebody") && text.contains("c.x"));
        assert!(revoke(&file, "a").unwrap_err().to_string().contains("no key `a`"));
        assert!(revoke(&file, "c").is_err(), "a certificate is no key");
        assert!(revoke(&folder.path().join("none.toml"), "a").is_err());
        assert!(!folder.path().join("none.toml").exists());
    }

    #[test]
    fn the_file_keeps_its_rights_and_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.toml");
        add(&file, entry("a")).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        // Only root may give files away.
        let other = std::os::unix::fs::chown(&file, Some(12_345), Some(54_321)).is_ok();
        add(&file, entry("b")).unwrap();
        revoke(&file, "a").unwrap();
        let seen = std::fs::metadata(&file).unwrap();
        assert_eq!(seen.permissions().mode() & 0o777, 0o640);
        assert!(!other || (seen.uid(), seen.gid()) == (12_345, 54_321));
    }

    #[test]
    fn many_at_once_are_all_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.toml");
        std::thread::scope(|scope| {
            for index in 0..8 {
                let file = &file;
                scope.spawn(move || add(file, entry(&format!("k{index}"))).unwrap());
            }
        });
        assert_eq!(names(&file).len(), 8);
    }
}
