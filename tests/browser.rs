//! The playground in a real browser: Debian's `chromium`, driven over WebDriver. Without one the tests are
//! skipped with a word; with `BRAZIER_REQUIRE_BROWSER=1` that fails, so that a CI cannot skip them unseen.

use std::f64::consts::TAU;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Server;

/// A headless browser with one page.
pub(crate) struct Browser {
    driver: Child,
    session: String,
    agent: ureq::Agent,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser with a window of this size; the error says why there is none.
    pub(crate) fn start(width: u32, height: u32) -> Result<Self, String> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = match command.spawn() {
            Ok(driver) => driver,
            Err(error) => {
                let required = std::env::var("BRAZIER_REQUIRE_BROWSER").is_ok_and(|value| value == "1");
                assert!(!required, "BRAZIER_REQUIRE_BROWSER=1, but chromedriver does not start: {error}");
                return Err(format!(
                    "chromedriver does not start ({error}); install chromium and chromium-driver"
                ));
            }
        };
        let mut lines = BufReader::new(driver.stdout.take().expect("it was asked for")).lines();
        let port = loop {
            let line = lines.next().expect("chromedriver names its port").expect("UTF-8");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        let profile = TempDir::new().expect("a temporary folder");
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        let mut browser = Self { driver, session: String::new(), agent, _profile: profile };
        let arguments = [
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-background-networking".to_owned(),
            "--no-first-run".to_owned(),
            format!("--user-data-dir={}", browser._profile.path().display()),
            format!("--window-size={width},{height}"),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let url = format!("http://127.0.0.1:{port}/session");
        let created = browser.send("POST", &url, &wanted);
        browser.session = format!("{url}/{}", created["sessionId"].as_str().expect("a session"));
        Ok(browser)
    }

    fn send(&self, method: &str, url: &str, body: &Value) -> Value {
        let sent = match method {
            "POST" => self.agent.post(url).send_json(body),
            "DELETE" => self.agent.delete(url).call(),
            _ => self.agent.get(url).call(),
        };
        let mut response = sent.expect("chromedriver answers");
        let answer: Value = response.body_mut().read_json().expect("chromedriver answers in JSON");
        assert!(response.status().is_success(), "{method} {url}: {answer}");
        answer["value"].clone()
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        self.send("POST", &format!("{}/{command}", self.session), body)
    }

    pub(crate) fn open(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    /// Runs a function body in the page and returns what it returns.
    pub(crate) fn script(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a script returns something other than null, false or an empty text.
    pub(crate) fn wait(&self, script: &str) -> Value {
        let began = Instant::now();
        loop {
            let value = self.script(script);
            if !matches!(&value, Value::Null | Value::Bool(false)) && value.as_str() != Some("") {
                return value;
            }
            if began.elapsed() > Duration::from_secs(20) {
                let page = self.script("return document.body.innerText");
                panic!("after 20 s still {value}: {script}\n{page}\n{:?}", self.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes the window a phone's of this width, which is narrower than a window can be.
    pub(crate) fn become_a_phone(&self, width: u32) {
        let metrics = json!({ "width": width, "height": 740, "deviceScaleFactor": 2, "mobile": true });
        let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": metrics });
        self.post("goog/cdp/execute", &command);
    }

    /// Fails if something reaches beyond the right edge, so that the page would move sideways.
    pub(crate) fn fits(&self) {
        let wide = self.script("return document.documentElement.scrollWidth > window.innerWidth");
        assert_eq!(wide, false, "the page is wider than the window");
    }

    /// The id of the element that a CSS selector finds.
    fn element(&self, selector: &str) -> String {
        let found = self.post("element", &json!({ "using": "css selector", "value": selector }));
        let id = found.as_object().and_then(|element| element.values().next()).and_then(Value::as_str);
        id.expect("an element has an id").to_owned()
    }

    pub(crate) fn click(&self, selector: &str) {
        self.post(&format!("element/{}/click", self.element(selector)), &json!({}));
    }

    pub(crate) fn keys(&self, selector: &str, keys: &str) {
        self.post(&format!("element/{}/value", self.element(selector)), &json!({ "text": keys }));
    }

    /// Chooses an option of a select by its value.
    fn choose(&self, id: &str, value: &str) {
        self.script(&format!(
            "const select = document.getElementById('{id}'); select.value = '{value}';
             select.dispatchEvent(new Event('change'));"
        ));
    }

    /// Draws strokes with the mouse, or with a finger; points are shares of the canvas.
    fn draw(&self, pointer: &str, strokes: &[Vec<(f64, f64)>]) {
        let frame = self.script(
            "const canvas = document.getElementById('canvas'); canvas.scrollIntoView({ block: 'center' });
             const box = canvas.getBoundingClientRect(); return [box.left, box.top, box.width, box.height];",
        );
        let side = |index: usize| frame[index].as_f64().expect("a number");
        for stroke in strokes {
            let mut actions = Vec::new();
            for (index, (x, y)) in stroke.iter().enumerate() {
                let (x, y) = ((side(0) + x * side(2)).round(), (side(1) + y * side(3)).round());
                actions.push(json!({ "type": "pointerMove", "duration": 5, "x": x as i64, "y": y as i64 }));
                if index == 0 {
                    actions.push(json!({ "type": "pointerDown", "button": 0 }));
                }
            }
            actions.push(json!({ "type": "pointerUp", "button": 0 }));
            let parameters = json!({ "pointerType": pointer });
            self.post(
                "actions",
                &json!({ "actions": [{ "type": "pointer", "id": pointer, "parameters": parameters, "actions": actions }] }),
            );
        }
    }

    /// What the console holds: errors of the scripts and what the content security policy refused.
    pub(crate) fn log(&self) -> Vec<String> {
        let entries = self.post("se/log", &json!({ "type": "browser" }));
        entries.as_array().into_iter().flatten().map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The session first: a driver that is killed leaves its browser behind.
        if !self.session.is_empty() {
            let _ = self.agent.delete(&self.session).call();
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn zero() -> Vec<Vec<(f64, f64)>> {
    let around = (0..=24).map(|step| f64::from(step) / 24.0 * TAU);
    vec![around.map(|angle| (0.5 + 0.2 * angle.sin(), 0.5 - 0.32 * angle.cos())).collect()]
}

fn seven() -> Vec<Vec<(f64, f64)>> {
    let line = |from: (f64, f64), to: (f64, f64)| {
        (0..=8).map(move |step| {
            let share = f64::from(step) / 8.0;
            (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share)
        })
    };
    vec![line((0.28, 0.2), (0.72, 0.2)).chain(line((0.72, 0.2), (0.45, 0.82))).collect()]
}

/// The class in large letters, once its bars are there and the answer is to what was last sent.
const WINNER: &str = "const bars = document.querySelectorAll('.bar-fill').length;
    return bars > 0 && document.querySelector('.winner-name')?.textContent";

#[test]
fn drawn_digits_are_recognised() {
    let browser = match Browser::start(1280, 900) {
        Ok(browser) => browser,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let server = Server::of_trained();
    browser.open(&server.url("/#digits"));
    browser.wait("return document.getElementById('status-text').textContent.includes('ready')");
    for (digit, strokes) in [("0", zero()), ("7", seven())] {
        browser.draw("mouse", &strokes);
        browser.wait(&format!("{WINNER} === '{digit}'"));
        let bars =
            browser.script("return [...document.querySelectorAll('.bar')].map((bar) => bar.innerText)");
        assert_eq!(bars.as_array().map(Vec::len), Some(10), "{bars}");
        let spoken = "document.getElementById('announce').textContent";
        browser.wait(&format!("return {spoken}.includes(': {digit}, ')"));
        let timing = browser.script("return document.querySelector('.timing').textContent");
        assert!(timing.as_str().is_some_and(|text| text.contains("ms in the server")), "{timing}");
        browser.click("#clear");
        browser.wait("return document.querySelectorAll('.bar').length === 0");
    }
    // The same with the keyboard alone: a vertical line, painted cell by cell.
    browser.keys("#canvas", "\u{e013}\u{e013}\u{e013}\u{e013} ");
    browser.keys("#canvas", &format!("\u{e008}{}\u{e008}", "\u{e015}".repeat(8)));
    browser.wait(WINNER);
    // Two versions side by side.
    browser.choose("version", "2");
    browser.choose("compare", "1");
    browser.wait("return document.querySelectorAll('.result').length === 2 && document.querySelector('.agreement') !== null");
    // An example of the data set.
    browser.click(".thumb");
    browser.wait("return document.getElementById('curl').textContent.includes('\"input\":[')");
    assert_eq!(browser.log(), Vec::<String>::new());
}

/// The texts of the cells of the table below two answers, row by row.
const CELLS: &str = "return [...document.querySelectorAll('.versus tr')]
    .map((row) => [...row.children].map((cell) => cell.innerText.trim().replace(/\\s+/g, ' ')))";

#[test]
fn floats_and_int8_are_compared() {
    let browser = match Browser::start(1280, 1000) {
        Ok(browser) => browser,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let server = Server::of_quantized();
    // As the quickstart names it: both versions are chosen by the address.
    browser.open(&server.url("/#digits@1,2"));
    browser.wait("return document.querySelector('.versus') !== null");
    assert_eq!(
        browser
            .script("return ['model', 'version', 'compare'].map((id) => document.getElementById(id).value)"),
        json!(["digits", "1", "2"])
    );
    for width in [1280, 390] {
        if width == 390 {
            browser.become_a_phone(width);
        }
        browser.click("#clear");
        browser.draw(if width == 390 { "touch" } else { "mouse" }, &zero());
        browser.wait(
            "return [...document.querySelectorAll('.winner-name')].map((name) => name.textContent).join() === '0,0'",
        );
        let answers = "return [...document.querySelectorAll('.result')].map((answer) => [
            answer.querySelector('.result-title').textContent, answer.querySelectorAll('.bar-fill').length,
            answer.querySelector('.timing').textContent.includes('ms in the server')])";
        assert_eq!(browser.script(answers), json!([["version 1", 10, true], ["version 2", 10, true]]));
        browser
            .wait("return document.querySelector('.agreement.same')?.textContent.includes('The two agree')");
        browser.wait("return document.getElementById('announce').textContent.includes('The two agree')");
        let cells = browser.script(CELLS);
        let row = |name: &str| -> Vec<&str> {
            let rows = cells.as_array().into_iter().flatten().filter_map(Value::as_array);
            let mut texts = rows.map(|row| row.iter().filter_map(Value::as_str).collect::<Vec<_>>());
            let found = texts.find(|row| row.first().is_some_and(|cell| cell.starts_with(name)));
            found.unwrap_or_else(|| panic!("no row `{name}`: {cells}"))
        };
        assert!(row("Precision")[1] == "f32" && row("Precision")[2].starts_with("int8"), "{cells}");
        assert!(row("Record")[2].ends_with("× smaller"), "{cells}");
        assert!(row("Accuracy")[1..].iter().all(|cell| cell.ends_with(" %")), "{cells}");
        assert!(row("Network")[1..].iter().all(|cell| cell.contains("µs") || cell.contains("ms")), "{cells}");
        browser.fits();
    }
    // One version again, and the table is gone; the address follows.
    browser.choose("compare", "");
    browser.wait("return document.querySelectorAll('.result').length === 1");
    let left = "return [document.getElementById('versus').hidden, document.getElementById('facts').hidden, location.hash]";
    assert_eq!(browser.script(left), json!([true, false, "#digits@1"]));
    assert_eq!(browser.log(), Vec::<String>::new());
}

#[test]
fn the_table_form_works_on_a_phone() {
    let browser = match Browser::start(500, 900) {
        Ok(browser) => browser,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    browser.become_a_phone(360);
    let server = Server::of_trained();
    browser.open(&server.url("/#cancer"));
    browser.wait("return document.querySelectorAll('#columns input').length === 30");
    // The empty row is refused in the page or by the model, never silently.
    browser.click("#table-pane button[type=submit]");
    browser.wait(
        "return !document.getElementById('alert').hidden || document.querySelector('.result') !== null",
    );
    browser.click("#table-example");
    browser.wait(WINNER);
    let before = browser.script("return document.querySelector('.bar-share').textContent");
    // Another value in one field, typed and sent with Enter, changes the answer.
    browser.script("document.querySelector('[data-column=worst_area]').value = ''");
    browser.keys("[data-column=worst_area]", "4000\u{e007}");
    browser.wait(&format!("return document.querySelector('.bar-share').textContent !== {before}"));
    browser.fits();
    browser.choose("model", "digits");
    browser.wait("return !document.getElementById('draw-pane').hidden");
    browser.draw("touch", &seven());
    browser.wait(WINNER);
    let quick = browser.script("return document.getElementById('quick').textContent");
    assert!(quick.as_str().is_some_and(|text| text.contains('%')), "{quick}");
    assert_eq!(browser.log(), Vec::<String>::new());
}
