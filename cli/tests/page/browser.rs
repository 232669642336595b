//! A browser, as far as these tests need one: headless Chromium, told what to do by the W3C WebDriver protocol.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct Browser {
    driver: Child,
    agent: ureq::Agent,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// None, with a message, where there is no Chromium.
    pub(crate) fn start() -> Option<Self> {
        let [chromium, driver] = ["/usr/bin/chromium", "/usr/bin/chromedriver"];
        if !Path::new(chromium).exists() || !Path::new(driver).exists() {
            eprintln!("not tested: there is no {chromium} and {driver} (Debian: chromium, chromium-driver)");
            return None;
        }
        let profile = TempDir::new().unwrap();
        let mut command = Command::new(driver);
        command.arg("--port=0").envs([("TZ", "UTC"), ("LANG", "C.UTF-8")]).env("HOME", profile.path());
        let mut driver = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("chromedriver starts");
        let stdout = BufReader::new(driver.stdout.take().expect("it is piped"));
        let started = "was started successfully on port ";
        let mut lines = stdout.lines().map_while(Result::ok);
        let port = lines.find_map(|line| Some(line.split_once(started)?.1.trim_end_matches('.').to_owned()));
        let port = port.expect("chromedriver tells its port");
        thread::spawn(move || lines.for_each(drop));
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(60)));
        let agent = config.http_status_as_error(false).build().new_agent();
        let profile_argument = format!("--user-data-dir={}", profile.path().join("profile").display());
        let arguments = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
                         --disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1400,1000";
        let arguments: Vec<_> =
            arguments.split(' ').filter(|word| !word.is_empty()).chain([&*profile_argument]).collect();
        let options = json!({ "binary": chromium, "args": arguments });
        let logs = json!({ "browser": "ALL", "performance": "ALL" });
        let wanted = json!({ "alwaysMatch": { "goog:chromeOptions": options, "goog:loggingPrefs": logs } });
        let mut browser =
            Self { driver, agent, session: format!("http://127.0.0.1:{port}/session"), _profile: profile };
        let session = browser.ask("", json!({ "capabilities": wanted }));
        browser.session = format!("{}/{}", browser.session, session["sessionId"].as_str().expect("a session"));
        Some(browser)
    }

    fn ask(&self, path: &str, body: Value) -> Value {
        let mut answer =
            self.agent.post(format!("{}{path}", self.session)).send_json(&body).expect("chromedriver answers");
        let body: Value = answer.body_mut().with_config().limit(1 << 28).read_json().expect("JSON");
        assert!(answer.status().is_success(), "{path}: {body}");
        body["value"].clone()
    }

    pub(crate) fn open(&self, url: &str) {
        self.ask("/url", json!({ "url": url }));
    }

    /// What a function body returns in the page.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.ask("/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// What is seen of an element.
    pub(crate) fn text(&self, selector: &str) -> String {
        let text = self.run(&format!("return document.querySelector({}).innerText", json!(selector)));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a condition in the page holds; says for how long it had to.
    pub(crate) fn wait(&self, condition: &str) -> Duration {
        let start = Instant::now();
        while self.run(&format!("return Boolean({condition})")) != json!(true) {
            assert!(start.elapsed() < Duration::from_secs(20), "{condition}: {}", self.text("body"));
            thread::sleep(Duration::from_millis(20));
        }
        start.elapsed()
    }

    /// Moves the mouse there, and on with its button down.
    pub(crate) fn drag(&self, from: (i64, i64), to: (i64, i64)) {
        let at = |(x, y)| json!({ "type": "pointerMove", "duration": 50, "x": x, "y": y });
        let [down, up] = ["pointerDown", "pointerUp"].map(|name| json!({ "type": name, "button": 0 }));
        let actions = json!([at(from), down, at(to), up]);
        self.ask("/actions", json!({ "actions": [{ "type": "pointer", "id": "mouse", "actions": actions }] }));
    }

    pub(crate) fn double_click(&self, (x, y): (i64, i64)) {
        let at = json!({ "type": "pointerMove", "duration": 0, "x": x, "y": y });
        let [down, up] = ["pointerDown", "pointerUp"].map(|name| json!({ "type": name, "button": 0 }));
        let actions = json!([at, down, up, down, up]);
        self.ask("/actions", json!({ "actions": [{ "type": "pointer", "id": "mouse", "actions": actions }] }));
    }

    /// Turns its wheel there.
    pub(crate) fn wheel(&self, at: (i64, i64), by: i64) {
        let turn = json!({ "type": "scroll", "x": at.0, "y": at.1, "deltaX": 0, "deltaY": by });
        self.ask("/actions", json!({ "actions": [{ "type": "wheel", "id": "wheel", "actions": [turn] }] }));
    }

    fn command(&self, command: &str, parameters: Value) {
        self.ask("/goog/cdp/execute", json!({ "cmd": command, "params": parameters }));
    }

    /// As somebody sees it who wants it `dark` or `light`, on a screen of this size.
    pub(crate) fn look(&self, scheme: &str, width: u32, height: u32) {
        let wish = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.command("Emulation.setEmulatedMedia", json!({ "features": wish }));
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.command("Emulation.setDeviceMetricsOverride", size);
    }

    /// Keeps a picture where `SCREENSHOTS` says, for whoever wants to look.
    pub(crate) fn picture(&self, name: &str) {
        let Ok(folder) = std::env::var("SCREENSHOTS") else { return };
        thread::sleep(Duration::from_millis(400));
        let mut answer = self.agent.get(format!("{}/screenshot", self.session)).call().expect("chromedriver answers");
        let body: Value = answer.body_mut().with_config().limit(1 << 28).read_json().expect("JSON");
        let png = BASE64.decode(body["value"].as_str().expect("a picture").as_bytes()).unwrap();
        fs::write(Path::new(&folder).join(format!("{name}.png")), png).unwrap();
    }

    /// Lines of the console, of which a page that is well has none.
    pub(crate) fn console(&self) -> Vec<String> {
        let lines = self.ask("/se/log", json!({ "type": "browser" }));
        let all = lines.as_array().expect("lines").iter();
        all.map(|line| format!("{} {}", line["level"], line["message"].as_str().unwrap_or_default())).collect()
    }

    /// What was asked for since this was asked last.
    pub(crate) fn requests(&self) -> Vec<String> {
        let lines = self.ask("/se/log", json!({ "type": "performance" }));
        let events = lines.as_array().expect("lines").iter().filter_map(|line| {
            let message: Value = serde_json::from_str(line["message"].as_str()?).ok()?;
            let event = &message["message"];
            let (what, of) = (&event["params"], event["params"]["documentURL"].as_str()?);
            // The browser's own page, with which it begins.
            let is_ours = event["method"] == "Network.requestWillBeSent" && !of.starts_with("chrome");
            is_ours.then(|| what["request"]["url"].as_str().unwrap_or_default().to_owned())
        });
        events.collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
