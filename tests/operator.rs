//! Drift and the operator's page, with a model of the quickstart and the data that it was trained on.

use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::support::{Place, Server, root, run, trained};

/// A registry of its own with both versions of `digits`, for a server that writes into it.
fn copied() -> Place {
    let place = Place::new();
    for version in ["1", "2"] {
        let package = trained().path(&format!("models/digits/{version}"));
        for entry in std::fs::read_dir(Path::new(&package)).expect("a package is a folder").flatten() {
            let bytes = std::fs::read(entry.path()).expect("a package has files alone");
            let name = entry.file_name().into_string().expect("UTF-8");
            place.write(&format!("models/digits/{version}/{name}"), bytes);
        }
    }
    place
}

/// Starts a server that says something from 100 rows on. Everybody may look and ask.
fn serve(place: &Place) -> Server {
    let config = place.write("serve.toml", "[drift]\nmin_samples = 100\n");
    Server::start(&["--models", &place.path("models"), "--config", &config])
}

/// The same, and whoever has the key may change things.
fn serve_with_a_key(place: &Place) -> (Server, String) {
    let keys = place.path("keys.toml");
    let made = run("serve", &["key", "new", "--keys", &keys, "--name", "ops", "--scope", "admin", "--json"])
        .ok()
        .json();
    let key = made["key"].as_str().expect("the key is told once").to_owned();
    let access = format!("[access]\nkeys = {keys:?}\nanonymous = [\"read\", \"infer\"]\n");
    let config = place.write("serve.toml", format!("[drift]\nmin_samples = 100\n{access}"));
    (Server::start(&["--models", &place.path("models"), "--config", &config]), key)
}

/// Every third picture that the project brings along, as 64 numbers from 0 to 16.
fn pictures() -> Vec<Vec<u8>> {
    let path = root().join("crates/train/data/digits/digits-images-idx3-ubyte.gz");
    let file = std::fs::File::open(path).expect("the data is in the repository");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("it is a gzip file");
    bytes[16..].chunks_exact(64).step_by(3).map(<[u8]>::to_vec).collect()
}

fn send(server: &Server, version: u64, pictures: &[Vec<u8>]) {
    for chunk in pictures.chunks(100) {
        let path = format!("/models/digits/versions/{version}/predict");
        let (status, answer) = server.post_json(&path, &json!({ "inputs": chunk }));
        assert_eq!(status, 200, "{answer}");
    }
}

/// The drift of a version once so many rows were counted.
fn counted(server: &Server, version: u64, rows: usize) -> Value {
    let began = Instant::now();
    loop {
        let (status, drift) = server.get(&format!("/v2/models/digits/versions/{version}/drift"));
        assert_eq!(status, 200, "{drift}");
        if drift["total_rows"] == rows {
            return drift;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "not {rows} rows: {drift}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The status and the index of a feature in the window.
fn of(drift: &Value, name: &str) -> (String, f64) {
    let features = drift["features"].as_array().expect("features");
    let found = features.iter().find(|feature| feature["name"] == name);
    let window = &found.unwrap_or_else(|| panic!("no `{name}`: {drift}"))["window"];
    (window["status"].as_str().unwrap_or_default().to_owned(), window["psi"].as_f64().unwrap_or(f64::NAN))
}

#[test]
fn what_a_model_was_trained_on_is_stable_and_what_it_was_not_is_drift() {
    let place = copied();
    let (server, key) = serve_with_a_key(&place);
    let pictures = pictures();
    send(&server, 1, &pictures);
    let same = counted(&server, 1, pictures.len());
    assert_eq!(same["status"], "stable", "{same}");
    for name in ["brightness", "contrast", "detail", "centre across", "centre down", "class"] {
        assert!(of(&same, name).1 < 0.1, "{name}: {same}");
    }
    // The other version has seen nothing.
    assert_eq!(counted(&server, 2, 0)["status"], "collecting");

    let (status, reset) = server.post_as(&key, "/v2/models/digits/versions/1/drift/reset");
    assert_eq!((status, &reset["total_rows"]), (200, &json!(0)));
    // Two columns to the right: as bright as before, and elsewhere.
    let shift = |picture: &Vec<u8>| -> Vec<u8> {
        (0..64).map(|place| if place % 8 < 2 { 0 } else { picture[place - 2] }).collect()
    };
    let shifted: Vec<Vec<u8>> = pictures.iter().map(shift).collect();
    send(&server, 1, &shifted);
    let moved = counted(&server, 1, shifted.len());
    let (status, psi) = of(&moved, "centre across");
    assert!(status == "significant" && psi > 1.0, "{moved}");
    // What fell off at the right has changed this, too, but a little.
    assert!(of(&moved, "centre down").1 < psi / 10.0, "{moved}");

    let inverted: Vec<Vec<u8>> =
        pictures.iter().map(|picture| picture.iter().map(|value| 16 - value).collect()).collect();
    send(&server, 2, &inverted);
    let moved = counted(&server, 2, inverted.len());
    for name in ["brightness", "class", "confidence"] {
        assert_eq!(of(&moved, name).0, "significant", "{name}: {moved}");
    }
    assert_eq!(moved["status"], "significant");
}

/// The text of a part of the page, in one line.
fn text(selector: &str) -> String {
    format!("document.querySelector('{selector}')?.textContent.replace(/\\s+/g, ' ')")
}

#[test]
fn the_page_shows_the_server_live_and_hands_changes_on() {
    let browser = match Browser::start(1280, 900) {
        Ok(browser) => browser,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let place = copied();
    let (server, key) = serve_with_a_key(&place);
    let pictures = pictures();
    browser.open(&server.url("/ops#digits@2"));
    let row =
        |version: u64, column: usize| text(&format!("tr[data-version=\"{version}\"] > :nth-child({column})"));
    browser.wait(&format!("return {} === 'ready'", row(2, 2)));
    // The drift that the address names is open; too few rows say nothing.
    browser.wait("return document.querySelectorAll('.feature.collecting').length === 7");
    send(&server, 2, &pictures);
    browser.wait("return document.querySelectorAll('.feature.stable').length === 7");
    browser.wait(&format!("return {}.includes('6 answered')", row(2, 1)));
    // Quantiles of what has just come.
    browser.wait(&format!("return /s$/.test({})", row(2, 6)));
    let inverted: Vec<Vec<u8>> =
        pictures.iter().map(|picture| picture.iter().map(|value| 16 - value).collect()).collect();
    for _ in 0..2 {
        send(&server, 2, &inverted);
    }
    browser.wait("return document.querySelector('.feature[data-feature=brightness]')?.dataset.status === 'significant'");
    browser.wait(&format!("return {}.includes('significant')", row(2, 9)));
    browser.wait(&format!("return {} === '1'", text("[data-tile=\"Drifted versions\"] dd")));
    let spoken =
        browser.script("return document.querySelector('.feature[data-feature=brightness] .bins').ariaLabel");
    assert!(spoken.as_str().is_some_and(|words| words.contains("largest change")), "{spoken}");

    // The weights of both versions, then one of them promoted.
    browser.keys("#key", &format!("{key}\u{e007}"));
    browser.wait("return !document.querySelector('.model-head .button').disabled");
    browser.click("input[data-version=\"1\"]");
    browser.script("document.querySelectorAll('.weights input').forEach((input) => { input.value = ''; })");
    browser.keys("input[data-version=\"1\"]", "3");
    browser.keys("input[data-version=\"2\"]", "1\u{e007}");
    browser.wait(&format!("return {}.includes('1: 75.0 % · 2: 25.0 %')", text(".model .panel .help")));
    assert_eq!(
        server.get("/v2/repository/models/digits/traffic").1["plan"]["split"],
        json!({ "1": 3, "2": 1 })
    );
    browser.click("tr[data-version=\"1\"] .last button");
    browser.wait(&format!("return {}.includes('production → 1')", text(".model-head .chips")));
    // Asked once more before it is done.
    browser.click(".button.danger");
    browser.wait("return document.querySelector('.button.danger').textContent === 'Unload, really?'");
    assert_eq!(server.get("/v2/models/digits/ready").0, 200);
    browser.click(".button.danger");
    browser.wait(&format!("return {} === 'unloaded'", row(2, 2)));
    browser.wait("return document.querySelector('.model .reason')?.textContent !== ''");
    for width in [1280, 390] {
        if width == 390 {
            browser.become_a_phone(width);
        }
        browser.fits();
    }
    // The drift of a version that has just gone may have been asked for once more.
    let log: Vec<String> = browser.log().into_iter().filter(|line| !line.contains("/drift")).collect();
    assert_eq!(log, Vec::<String>::new());
}

#[test]
fn without_the_right_nothing_can_be_pressed_and_the_key_goes_with_every_request() {
    let browser = match Browser::start(1280, 900) {
        Ok(browser) => browser,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let place = copied();
    let server = serve(&place);
    browser.open(&server.url("/ops"));
    browser.wait("return document.querySelectorAll('tr[data-version]').length === 2");
    browser.wait("return [...document.querySelectorAll('.model button:not(.drift-button)')].every((button) => button.disabled)");
    let why = browser.script("return document.getElementById('key-help').textContent");
    assert!(why.as_str().is_some_and(|words| words.contains("scope admin")), "{why}");
    // A key is kept for the tab, sent as a bearer's, and never shown again.
    browser.script(
        "window.sent = []; const ask = window.fetch;
         window.fetch = (path, options) => { window.sent.push(options.headers.authorization ?? ''); return ask(path, options); };",
    );
    browser.keys("#key", "secret-of-the-test\u{e007}");
    browser.wait("return window.sent.includes('Bearer secret-of-the-test')");
    let kept = "return [sessionStorage.getItem('brazier-key'), document.getElementById('key').value, localStorage.length]";
    assert_eq!(browser.script(kept), json!(["secret-of-the-test", "", 0]));
    // What the server refuses is said in its words, and nothing more is tried.
    browser.script("document.querySelector('.model-head .button').disabled = false");
    browser.click(".model-head .button");
    browser.wait("return document.getElementById('alert').textContent.includes('takes no changes')");
    browser.wait("return document.querySelector('.model-head .button').disabled");
    browser.click("#forget");
    browser.wait("return sessionStorage.getItem('brazier-key') === null");
    // The one refusal that was provoked is all that the console has.
    let log = browser.log();
    assert!(log.len() == 1 && log[0].contains("403"), "{log:?}");
}
