//! The program of an image: building it as one static file, and what a file that is not static needs beside it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use cli::ErrorExt as _;

use crate::workspace::Workspace;

/// Builds `serve` for a target, as one file that needs no libraries.
pub(crate) fn build(workspace: &Workspace, target: Option<&str>) -> anyhow::Result<Program> {
    let target = match target {
        Some(target) => target.to_owned(),
        None => host()?,
    };
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--package", "serve", "--target", &target]).args(workspace.profile());
    cargo.stdin(Stdio::null()).stdout(Stdio::null());
    // Only with a target named do the flags leave build scripts and macros alone, which cannot be static.
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
    cargo.env(flags, "-C target-feature=+crt-static");
    crate::note(&format!("building serve for {target}; the first time takes minutes …"));
    let status = cargo.status().context("cannot run cargo")?;
    if !status.success() {
        return Err(anyhow::anyhow!("the build for {target} failed ({status})"))
            .hint(format!("`rustup target add {target}` may be missing; --binary takes a program as it is"));
    }
    let binaries = workspace.binaries();
    let profile = binaries.file_name().unwrap_or_default();
    let folder = binaries.parent().unwrap_or(binaries).join(&target).join(profile);
    let program = Program::read(&folder.join("serve"))?;
    if program.dynamic {
        return Err(anyhow::anyhow!("the program that was built for {target} needs libraries"))
            .hint("RUSTFLAGS in the environment replaces the flags that make it static; unset it");
    }
    Ok(program)
}

/// The target of this machine's compiler.
fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not name its host")
}

/// A program as a file.
pub(crate) struct Program {
    path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    /// As OCI calls it.
    pub(crate) architecture: &'static str,
    /// Whether something has to load it.
    pub(crate) dynamic: bool,
}

impl Program {
    /// Reads a program of 64-bit Linux.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let elf = elf(&bytes);
        let (architecture, dynamic) =
            elf.with_context(|| format!("{} is no program for x86-64 or AArch64 Linux", path.display()))?;
        Ok(Self { path: path.to_owned(), bytes, architecture, dynamic })
    }

    /// The libraries that it needs, with the paths at which it looks for them; none for a static one.
    pub(crate) fn libraries(&self) -> anyhow::Result<Vec<PathBuf>> {
        if !self.dynamic {
            return Ok(Vec::new());
        }
        let output = Command::new("ldd").arg(&self.path).env("LC_ALL", "C").output();
        let output = output.context("cannot run ldd, which names the libraries of a program")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let path = self.path.display();
            return Err(anyhow::anyhow!("the libraries of {path} cannot be found: {said}"))
                .hint("a program of another architecture or C library must be static");
        }
        listed(&String::from_utf8_lossy(&output.stdout))
    }
}

/// Architecture and need of a loader, from the head and the segments of an ELF file.
fn elf(program: &[u8]) -> Option<(&'static str, bool)> {
    const X86_64: u64 = 62;
    const AARCH64: u64 = 183;
    const INTERPRETER: u64 = 3;
    if !program.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, bytes: usize| {
        let field = program.get(at..at.checked_add(bytes)?)?;
        Some(field.iter().rev().fold(0u64, |number, byte| (number << 8) | u64::from(*byte)))
    };
    let architecture = match number(18, 2)? {
        X86_64 => "amd64",
        AARCH64 => "arm64",
        _ => return None,
    };
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let mut dynamic = false;
    for segment in 0..count {
        let at = usize::try_from(start.checked_add(segment * size)?).ok()?;
        dynamic |= number(at, 4)? == INTERPRETER;
    }
    Some((architecture, dynamic))
}

/// The paths in what `ldd` says: `name => path (address)`, or `path (address)` for the loader.
fn listed(text: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in text.lines().map(str::trim) {
        let Some(place) = line.rsplit("=> ").next().filter(|place| !place.is_empty()) else { continue };
        if place.starts_with("not found") {
            anyhow::bail!("a library of the program is missing here: {line}");
        }
        let path = place.split(" (").next().unwrap_or(place);
        if path.starts_with('/') {
            paths.push(PathBuf::from(path));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_ldd_says() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(listed(text).unwrap(), expected.map(PathBuf::from));
        assert_eq!(listed("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
        assert!(listed("\tlibx.so => not found\n").is_err());
    }

    #[test]
    fn architecture_and_loader_are_in_the_head_of_a_program() {
        let file = |machine: u8, segments: &[u8]| {
            let mut bytes = [&b"\x7fELF\x02\x01"[..], &[0; 12], &[machine, 0], &[0; 44]].concat();
            (bytes[32], bytes[54], bytes[56]) = (64, 56, u8::try_from(segments.len()).unwrap());
            for kind in segments {
                bytes.extend([&[*kind], &[0; 55][..]].concat());
            }
            bytes
        };
        assert_eq!(elf(&file(62, &[1, 3, 2])), Some(("amd64", true)));
        assert_eq!(elf(&file(183, &[1, 2])), Some(("arm64", false)));
        assert_eq!(elf(&file(3, &[1])), None);
        assert_eq!(elf(b"#!/bin/sh\n"), None);
        // Cut off, or with segments that are nowhere.
        let whole = file(62, &[1, 3]);
        assert!((0..whole.len() - 52).all(|length| elf(&whole[..length]).is_none()));
        let mut far = whole;
        far[32..40].fill(0xff);
        assert_eq!(elf(&far), None);
    }
}
