//! Downloads one file into its `.part`, going on where an earlier attempt stopped.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE};

use super::Event;
use super::catalogue::RemoteFile;
use super::error::FetchError;
use super::verify::verify;

/// Attempts per mirror; each goes on where the one before it stopped.
const ATTEMPTS: usize = 3;

/// Downloads from the first mirror that gives the right file.
pub(super) fn download(
    file: &RemoteFile,
    mirrors: &[&str],
    part: &Path,
    observe: &mut dyn FnMut(Event),
) -> Result<(), FetchError> {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_resolve(Some(Duration::from_secs(30)))
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .build()
        .into();
    let mut failures = Vec::new();
    for mirror in mirrors {
        let url = format!("{}/{}", mirror.trim_end_matches('/'), file.name);
        for attempt in 1..=ATTEMPTS {
            let resumed = part_len(part) > 0;
            let error = match transfer(&agent, &url, file, part, observe).and_then(|()| verify(part, file)) {
                Ok(()) => return Ok(()),
                // The disk will not become larger by asking again.
                Err(error @ FetchError::Io { .. }) => return Err(error),
                Err(error) => error,
            };
            // A wrong digest after a resumption may only mean that the beginning was another file's: once
            // more from the start. Whatever else is wrong with the content stays wrong on this mirror.
            let wrong = matches!(
                error,
                FetchError::Digest { .. } | FetchError::Gzip { .. } | FetchError::TooLarge { .. }
            );
            if wrong {
                std::fs::remove_file(part).map_err(FetchError::io(part, "remove it"))?;
            }
            let hopeless = (wrong && !resumed) || matches!(error, FetchError::Status { .. });
            let reason = error.named(Path::new(&url)).to_string();
            if hopeless || attempt == ATTEMPTS {
                failures.push(reason);
                break;
            }
            observe(Event::Retry { file: file.name.to_owned(), reason });
        }
    }
    Err(FetchError::AllMirrors { file: file.name.to_owned(), failures })
}

fn part_len(part: &Path) -> u64 {
    std::fs::metadata(part).map_or(0, |metadata| metadata.len())
}

/// One request; what arrives is appended to the part.
fn transfer(
    agent: &Agent,
    url: &str,
    file: &RemoteFile,
    part: &Path,
    observe: &mut dyn FnMut(Event),
) -> Result<(), FetchError> {
    let transport =
        |error: ureq::Error| FetchError::Transport { url: url.to_owned(), reason: error.to_string() };
    let have = part_len(part);
    let mut request = agent.get(url).header(ACCEPT_ENCODING, "identity");
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let mut response = request.call().map_err(transport)?;
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let length: Option<u64> = header(CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let done = match response.status().as_u16() {
        200 => 0,
        206 if header(CONTENT_RANGE).is_some_and(|range| range.starts_with(&format!("bytes {have}-"))) => {
            have
        }
        // The part is as long as the file or longer: whether it is the file, its digest will tell.
        416 if have > 0 => return Ok(()),
        206 => {
            let reason = "the server resumed at another place than it was asked to".to_owned();
            return Err(FetchError::Transport { url: url.to_owned(), reason });
        }
        status => return Err(FetchError::Status { url: url.to_owned(), status }),
    };
    let total = length.map(|length| done + length);
    if total.is_some_and(|total| total > file.limit) {
        return Err(FetchError::TooLarge { file: url.to_owned(), limit: file.limit });
    }
    observe(Event::Begin { file: file.name.to_owned(), from: url.to_owned(), done, total });
    let opened = if done > 0 { OpenOptions::new().append(true).open(part) } else { File::create(part) };
    let mut writer = opened.map_err(FetchError::io(part, "open it for writing"))?;
    append(response.body_mut().as_reader(), &mut writer, url, file, part, (done, total), observe)?;
    writer.sync_all().map_err(FetchError::io(part, "write it"))
}

fn append(
    mut reader: impl Read,
    writer: &mut File,
    url: &str,
    file: &RemoteFile,
    part: &Path,
    (mut done, total): (u64, Option<u64>),
    observe: &mut dyn FnMut(Event),
) -> Result<(), FetchError> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let len = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let reason = format!("the transfer broke off after {done} bytes: {error}");
                return Err(FetchError::Transport { url: url.to_owned(), reason });
            }
        };
        writer.write_all(&buffer[..len]).map_err(FetchError::io(part, "write it"))?;
        done += len as u64;
        if done > file.limit {
            return Err(FetchError::TooLarge { file: url.to_owned(), limit: file.limit });
        }
        observe(Event::Progress { done });
    }
    if total.is_some_and(|total| total != done) {
        let reason = format!("the transfer broke off after {done} of {} bytes", total.unwrap_or_default());
        return Err(FetchError::Transport { url: url.to_owned(), reason });
    }
    Ok(())
}
