//! Fetching from a small server on this machine that misbehaves on demand, and from folders.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::*;
use crate::data::hex;

/// What the server does with a file.
#[derive(Clone)]
enum Answer {
    Status(u16),
    /// Ranges are honoured.
    File(Vec<u8>),
    /// As `File`, but the first answer ends after so many bytes.
    Cut(Vec<u8>, usize),
    /// Ranges are ignored.
    NoRanges(Vec<u8>),
}

struct Server {
    url: String,
    /// The `Range` headers in the order of the requests; empty: none.
    ranges: Arc<Mutex<Vec<String>>>,
}

fn serve(answers: &[(&str, Answer)]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/files", listener.local_addr().unwrap());
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let mut answers: HashMap<String, Answer> =
        answers.iter().map(|(name, answer)| (format!("/files/{name}"), answer.clone())).collect();
    let log = ranges.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that hangs up early is no concern of the server.
            let _ = answer(stream.unwrap(), &mut answers, &log);
        }
    });
    Server { url, ranges }
}

fn answer(
    mut stream: TcpStream,
    answers: &mut HashMap<String, Answer>,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap()?;
    let mut range = String::new();
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("range: ") {
            range = value.to_owned();
        }
    }
    log.lock().unwrap().push(range.clone());
    let path = request.split(' ').nth(1).unwrap_or_default();
    let found = answers.get(path).cloned().unwrap_or(Answer::Status(404));
    let start: Option<usize> =
        range.strip_prefix("bytes=").and_then(|range| range.trim_end_matches('-').parse().ok());
    let (body, cut) = match found {
        Answer::Status(status) => {
            return write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        Answer::NoRanges(body) => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
            return stream.write_all(&body);
        }
        Answer::File(body) => (body, usize::MAX),
        Answer::Cut(body, after) => {
            answers.insert(path.to_owned(), Answer::File(body.clone()));
            (body, after)
        }
    };
    let (status, extra, rest) = match start {
        Some(start) if start >= body.len() => {
            return write!(stream, "HTTP/1.1 416 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        Some(start) => {
            let range = format!("Content-Range: bytes {start}-{}/{}\r\n", body.len() - 1, body.len());
            ("206 Partial Content", range, &body[start..])
        }
        None => ("200 OK", String::new(), &body[..]),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{extra}Content-Length: {}\r\nConnection: close\r\n\r\n",
        rest.len()
    )?;
    stream.write_all(&rest[..rest.len().min(cut)])
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(content).unwrap();
    packer.finish().unwrap()
}

fn sha256(bytes: &[u8]) -> &'static str {
    Box::leak(hex(&Sha256::digest(bytes)).into_boxed_str())
}

/// Content that does not compress to nothing.
fn content() -> Vec<u8> {
    (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn item(check: Check, name: &'static str) -> Item {
    Item {
        name: "test",
        mirrors: &[],
        files: vec![RemoteFile { name, check, limit: 1 << 20 }],
        unpack: false,
    }
}

fn run(
    item: &Item,
    data: &Path,
    url: Option<&str>,
    from: Option<&Path>,
) -> (Result<Fetched, FetchError>, Vec<Event>) {
    let mut events = Vec::new();
    let request = Request {
        dataset: Fetchable::Mnist,
        data: data.to_owned(),
        from: from.map(ToOwned::to_owned),
        mirror: url.map(ToOwned::to_owned),
    };
    let result = fetch_item(item, &request, &mut |event| events.push(event));
    (result, events)
}

fn left(data: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(data.join("test"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn downloads_verifies_and_knows_it_the_next_time() {
    let server = serve(&[("a.gz", Answer::File(gzip(&content())))]);
    let item = item(Check::Content(sha256(&content())), "a.gz");
    let data = tempfile::tempdir().unwrap();
    let (result, events) = run(&item, data.path(), Some(&server.url), None);
    assert_eq!(result.unwrap().files[0].how, How::Downloaded);
    assert!(matches!(&events[0], Event::Begin { done: 0, total: Some(_), .. }));
    assert_eq!(left(data.path()), ["a.gz"]);
    let (result, _) = run(&item, data.path(), Some(&server.url), None);
    assert_eq!(result.unwrap().files[0].how, How::AlreadyThere);
    assert_eq!(server.ranges.lock().unwrap().len(), 1, "the second time asks for nothing");
    // A file that was damaged since is replaced.
    std::fs::write(data.path().join("test/a.gz"), gzip(b"something else")).unwrap();
    let (result, events) = run(&item, data.path(), Some(&server.url), None);
    assert_eq!(result.unwrap().files[0].how, How::Downloaded);
    assert!(matches!(&events[0], Event::Retry { reason, .. } if reason.contains("is not the right file")));
}

#[test]
fn goes_on_where_a_transfer_broke_off() {
    for (answer, begins) in [
        (Answer::Cut(content(), 70_000), vec![0, 70_000]),
        // An earlier run left 1,000 bytes; a server without ranges sends everything again.
        (Answer::File(content()), vec![1_000]),
        (Answer::NoRanges(content()), vec![0]),
    ] {
        let data = tempfile::tempdir().unwrap();
        if !matches!(answer, Answer::Cut(..)) {
            std::fs::create_dir(data.path().join("test")).unwrap();
            std::fs::write(data.path().join("test/a.bin.part"), &content()[..1000]).unwrap();
        }
        let server = serve(&[("a.bin", answer)]);
        let item = item(Check::File(sha256(&content())), "a.bin");
        let (result, events) = run(&item, data.path(), Some(&server.url), None);
        result.unwrap();
        let dones: Vec<u64> = events
            .iter()
            .filter_map(|event| if let Event::Begin { done, .. } = event { Some(*done) } else { None })
            .collect();
        assert_eq!(dones, begins);
        assert_eq!(std::fs::read(data.path().join("test/a.bin")).unwrap(), content());
    }
}

#[test]
fn a_part_of_another_file_is_started_afresh() {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("test")).unwrap();
    for part in [vec![1; 1000], vec![1; 300_000]] {
        std::fs::write(data.path().join("test/a.bin.part"), part).unwrap();
        let server = serve(&[("a.bin", Answer::File(content()))]);
        let item = item(Check::File(sha256(&content())), "a.bin");
        run(&item, data.path(), Some(&server.url), None).0.unwrap();
        assert_eq!(server.ranges.lock().unwrap().last().unwrap(), "");
        std::fs::remove_file(data.path().join("test/a.bin")).unwrap();
    }
}

#[test]
fn refuses_what_is_wrong_and_keeps_nothing_of_it() {
    let good = gzip(&content());
    let mut large = content();
    large.resize(2 << 20, 0);
    let cases: [(Answer, &str); 6] = [
        (Answer::Status(404), "answered with status 404"),
        (Answer::Status(503), "answered with status 503"),
        (
            Answer::File(gzip(b"another file")),
            "is not the right file: the SHA-256 of the uncompressed content is ",
        ),
        (Answer::File(good[..good.len() / 2].to_vec()), "the gzip stream is damaged"),
        (Answer::File(b"<html>no</html>".to_vec()), "the gzip stream is damaged"),
        (Answer::File(gzip(&large)), "is larger than the limit of 1048576 bytes"),
    ];
    for (answer, message) in cases {
        let data = tempfile::tempdir().unwrap();
        let server = serve(&[("a.gz", answer)]);
        let item = item(Check::Content(sha256(&content())), "a.gz");
        let error = run(&item, data.path(), Some(&server.url), None).0.unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.to_string().contains("/files/a.gz") && error.hint().is_some(), "{error}");
        assert_eq!(left(data.path()), [""; 0]);
    }
    // A mirror that is not there at all.
    let data = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let item = item(Check::File(sha256(b"x")), "a.bin");
    let error = run(&item, data.path(), Some(&format!("http://{closed}")), None).0.unwrap_err();
    assert!(matches!(error, FetchError::AllMirrors { .. }), "{error}");
}

#[test]
fn the_second_mirror_is_asked_when_the_first_fails() {
    let (bad, good) = (serve(&[]), serve(&[("a.bin", Answer::File(content()))]));
    let mut item = item(Check::File(sha256(&content())), "a.bin");
    let mirrors: Vec<&'static str> =
        [bad.url, good.url].map(|url| &*Box::leak(url.into_boxed_str())).to_vec();
    item.mirrors = Box::leak(mirrors.into_boxed_slice());
    let data = tempfile::tempdir().unwrap();
    assert_eq!(run(&item, data.path(), None, None).0.unwrap().files[0].how, How::Downloaded);
}

#[test]
fn an_interrupted_download_leaves_its_part() {
    let data = tempfile::tempdir().unwrap();
    let item = item(Check::File(sha256(&content())), "a.bin");
    // The server forgets the file after a first, cut answer.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut answers = HashMap::from([("/a.bin".to_owned(), Answer::Cut(content(), 5_000))]);
        let log = Mutex::new(Vec::new());
        let _ = answer(listener.accept().unwrap().0, &mut answers, &log);
        answers.clear();
        for stream in listener.incoming() {
            let _ = answer(stream.unwrap(), &mut answers, &log);
        }
    });
    assert!(run(&item, data.path(), Some(&url), None).0.is_err());
    assert_eq!(left(data.path()), ["a.bin.part"]);
    assert_eq!(std::fs::metadata(data.path().join("test/a.bin.part")).unwrap().len(), 5_000);
}

#[test]
fn takes_local_files_through_the_same_verification() {
    let (from, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let item = item(Check::Content(sha256(&content())), "a.gz");
    let take = || run(&item, data.path(), None, Some(from.path())).0;
    assert!(take().unwrap_err().to_string().ends_with("has no file `a.gz`"));
    std::fs::write(from.path().join("a.gz"), gzip(b"another file")).unwrap();
    let error = take().unwrap_err().to_string();
    assert!(error.starts_with(&from.path().join("a.gz").display().to_string()), "{error}");
    assert!(error.contains("is not the right file") && left(data.path()).is_empty());
    std::fs::remove_file(from.path().join("a.gz")).unwrap();
    std::fs::write(from.path().join("a"), content()).unwrap();
    assert_eq!(take().unwrap().files[0].how, How::Copied);
    assert_eq!(left(data.path()), ["a.gz"]);
}

fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Written by hand: the library refuses to make the names that an attacker would.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    gzip(&builder.into_inner().unwrap())
}

#[test]
fn archives_give_their_known_files_and_nothing_else() {
    let needed = [("a.bin", Some(3)), ("names.txt", None)];
    let unpack = |entries: &[(&str, &[u8])]| {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("inside");
        std::fs::create_dir(&folder).unwrap();
        let bytes = archive(entries);
        std::fs::write(folder.join("x.tar.gz"), &bytes).unwrap();
        let file = RemoteFile { name: "x.tar.gz", check: Check::File(sha256(&bytes)), limit: 1 << 20 };
        let result = unpack::unpack_needed(&folder, &file, &needed);
        let count = |path: &Path| std::fs::read_dir(path).unwrap().count();
        (result.map_err(|error| error.to_string()), count(data.path()), count(&folder))
    };
    // An entry that climbs out is flattened to its known name, or ignored.
    let entries: [(&str, &[u8]); 4] =
        [("d/a.bin", b"abc"), ("../evil.txt", b"x"), ("../../names.txt", b"n"), ("d/other", b"y")];
    assert_eq!(unpack(&entries), (Ok(()), 1, 3), "two files and the receipt");
    type Case<'a> = (&'a [(&'a str, &'a [u8])], &'a str);
    let cases: [Case<'_>; 3] = [
        (&[("d/a.bin", b"abc")], "it has no file `names.txt`"),
        (&[("d/a.bin", b"abcd"), ("names.txt", b"n")], "the entry `d/a.bin` has 4 bytes, which is not right"),
        (&[("a.bin", b"abc"), ("e/a.bin", b"abc")], "the entry `e/a.bin` is no file, or is there twice"),
    ];
    for (entries, message) in cases {
        let (result, outside, inside) = unpack(entries);
        assert!(result.as_ref().unwrap_err().contains(message), "{result:?}");
        assert_eq!((outside, inside), (1, 1), "only the archive is left");
    }
}

#[test]
fn the_catalogue_is_sound() {
    for dataset in Fetchable::ALL {
        let item = dataset.item();
        assert_eq!(dataset.name().parse::<crate::data::SourceKind>().unwrap().name(), dataset.name());
        for file in item.files {
            let sha256 = file.check.sha256();
            assert!(sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
        assert!(item.mirrors.iter().all(|mirror| mirror.starts_with("http") && mirror.ends_with('/')));
    }
}
