//! The program of an image: building it as one static file, and what a file that is not static needs beside it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use cli::ErrorExt as _;

use crate::workspace::Workspace;

/// Builds `serve` for a target, as one file that needs no libraries.
pub(crate) fn build(workspace: &Workspace, target: Option<&str>) -> anyhow::Result<PathBuf> {
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
    Ok(folder.join("serve"))
}

/// The target of this machine's compiler.
fn host() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not name its host")
}

/// The architecture of a program as OCI calls it, from the head of its ELF file.
pub(crate) fn architecture(program: &[u8]) -> Option<&'static str> {
    const X86_64: u16 = 62;
    const AARCH64: u16 = 183;
    let machine = program.get(18..20)?;
    if !program.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    match u16::from_le_bytes([*machine.first()?, *machine.get(1)?]) {
        X86_64 => Some("amd64"),
        AARCH64 => Some("arm64"),
        _ => None,
    }
}

/// The libraries that a program needs, with the paths at which it looks for them; none for a static one.
pub(crate) fn libraries(program: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output();
    let output = output.context("cannot run ldd, which names the libraries of a program")?;
    if !output.status.success() {
        // That is how it speaks of a program that is static.
        return Ok(Vec::new());
    }
    listed(&String::from_utf8_lossy(&output.stdout))
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
    fn an_architecture_is_in_the_head_of_a_program() {
        let head = |machine: u8| [&b"\x7fELF\x02\x01"[..], &[0; 12], &[machine, 0]].concat();
        assert_eq!(architecture(&head(62)), Some("amd64"));
        assert_eq!(architecture(&head(183)), Some("arm64"));
        assert_eq!(architecture(&head(3)), None);
        assert_eq!(architecture(b"#!/bin/sh\n"), None);
    }
}
