//! The page of `distfun report` and `distfun dashboard` in a real browser.
//!
//! `SCREENSHOTS=DIR` keeps pictures of it; `REWRITE=1` writes the texts it is compared with anew.

mod browser;

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use browser::Browser;
use serde_json::{Value, json};
use tempfile::TempDir;

fn kept(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

fn distfun() -> Command {
    Command::new(env!("CARGO_BIN_EXE_distfun"))
}

/// A report of logs, as an address.
fn report(folder: &TempDir, logs: &[PathBuf], more: &[&str]) -> String {
    let file = folder.path().join("run.html");
    let output = distfun().arg("report").args(logs).arg("-o").arg(&file).args(more).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    format!("file://{}", file.display())
}

fn assert_quiet(browser: &Browser, from: &str) {
    assert_eq!(browser.console(), Vec::<String>::new());
    let foreign = |url: &String| !url.starts_with(from) && !url.starts_with("data:");
    let foreign: Vec<_> = browser.requests().into_iter().filter(foreign).collect();
    assert_eq!(foreign, Vec::<String>::new());
}

const SECTIONS: [&str; 11] = [
    "header",
    "#concerns",
    "#figures",
    "#calls",
    "#stream",
    "#tree",
    "#story",
    "#workers",
    "#nodes",
    "#failures",
    "#shared",
];

#[test]
fn a_report_shows_in_each_section_what_the_log_tells() {
    let Some(browser) = Browser::start() else { return };
    let folder = TempDir::new().unwrap();
    let url = report(&folder, &["manager", "alder", "birch"].map(|name| kept(&format!("logs/{name}.ndjson"))), &[]);
    for (scheme, width, height) in
        [("light", 1400, 2300), ("dark", 1400, 2300), ("light", 420, 3600), ("dark", 420, 3600)]
    {
        browser.look(scheme, width, height);
        browser.open(&url);
        browser.wait("performance.getEntriesByName('distfun.redraw').length");
        let ground = browser.run("return getComputedStyle(document.body).backgroundColor");
        let expected = if scheme == "dark" { "rgb(18, 21, 27)" } else { "rgb(244, 245, 247)" };
        assert_eq!(ground, expected);
        assert_eq!(browser.run("return document.documentElement.scrollWidth <= innerWidth"), true, "{width} is enough");
        browser.picture(&format!("report-{scheme}-{width}"));
        assert_contrast(&browser);
    }
    browser.look("light", 1400, 1000);
    // A call, opened by the keyboard.
    browser.run("document.querySelector('#calls .call').focus(); document.activeElement.click()");
    browser.wait("!document.querySelector('#calls .details').hidden");
    let mut text = String::new();
    for section in SECTIONS {
        let _ = writeln!(text, "== {section}\n{}\n", browser.text(section));
    }
    let footer = browser.text("footer");
    let _ = writeln!(text, "== footer\n{}", footer.lines().next().unwrap_or_default());
    compare("report", &text);

    // The other scheme, on request, and kept.
    browser.run("document.querySelector('#theme').click()");
    browser.wait("getComputedStyle(document.body).backgroundColor === 'rgb(18, 21, 27)'");
    browser.open(&url);
    assert_eq!(browser.run("return document.documentElement.dataset.theme"), "dark");
    // The stream says what is under the pointer, and obeys the keyboard.
    browser.wait("document.querySelector('canvas').getAttribute('aria-label')");
    let found = "const canvas = document.querySelector('canvas'), box = canvas.getBoundingClientRect();
        for (let x = 130; x < box.width; x += 3) {
            canvas.dispatchEvent(new PointerEvent('pointermove', { clientX: box.left + x, clientY: box.top + 8, bubbles: true }));
            if (!document.querySelector('.tip').hidden) return document.querySelector('.tip').textContent;
        }";
    let tip = browser.run(found);
    assert!(tip.as_str().is_some_and(|tip| tip.contains("item") && tip.contains("took ")), "{tip}");
    let range = || browser.run("return document.querySelector('canvas').getAttribute('aria-label')");
    let before = range();
    browser.run(
        "document.querySelector('canvas').dispatchEvent(new KeyboardEvent('keydown', { key: '+', bubbles: true }))",
    );
    browser.wait(&format!("document.querySelector('canvas').getAttribute('aria-label') !== {before}"));
    // The story, filtered.
    let lines = || browser.run("return document.querySelectorAll('#story li').length").as_u64().unwrap();
    let all = lines();
    browser.run("const select = document.querySelector('#story select'); select.value = '2'; select.dispatchEvent(new Event('change'))");
    browser.wait(&format!("document.querySelectorAll('#story li').length < {all}"));
    assert!(lines() > 0);
    assert_quiet(&browser, "file://");
}

/// Every text that is seen has the contrast that WCAG 2 asks for (AA).
fn assert_contrast(browser: &Browser) {
    let script = "
        const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
        const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * x + .7152 * y + .0722 * z; };
        const bad = [];
        for (const element of document.querySelectorAll('body *')) {
            const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
            if (!own || !element.getClientRects().length || element.closest('script, style, .unseen, .dead, canvas, noscript, .skip')) continue;
            let ground = [255, 255, 255, 0];
            for (let at = element; at && ground[3] < 1; at = at.parentElement) ground = parse(getComputedStyle(at).backgroundColor);
            const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground)].sort((a, b) => b - a);
            const contrast = (a + .05) / (b + .05);
            if (contrast < 4.5) bad.push(`${element.className} ${element.textContent.slice(0, 30)}: ${contrast.toFixed(2)}`);
        }
        return [...new Set(bad)]";
    assert_eq!(browser.run(script), json!([]));
}

/// With the text that is kept, which `REWRITE=1` writes.
fn compare(name: &str, text: &str) {
    let path = kept(&format!("pages/{name}.txt"));
    if std::env::var_os("REWRITE").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).expect("REWRITE=1 writes it");
    for (number, (said, expected)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(said, expected, "line {} of {}", number + 1, path.display());
    }
    assert_eq!(text.lines().count(), expected.lines().count(), "{}", path.display());
}

/// A log that is being written.
struct Log {
    file: File,
    boot_id: &'static str,
    seq: u64,
}

impl Log {
    fn create(path: &Path, boot_id: &'static str) -> Self {
        Self { file: OpenOptions::new().create(true).append(true).open(path).unwrap(), boot_id, seq: 0 }
    }

    fn say(&mut self, level: &str, event: &str, message: &str, fields: Value) {
        self.say_at(SystemTime::now(), level, event, message, fields);
    }

    fn say_at(&mut self, at: SystemTime, level: &str, event: &str, message: &str, fields: Value) {
        let mut line = json!({
            "timestamp": humantime::format_rfc3339_micros(at).to_string(), "level": level, "target": "distfun::event",
            "message": message, "otel.event.name": format!("distfun.{event}"), "distfun.boot_id": self.boot_id,
            "distfun.seq": self.seq, "distfun.role": "manager", "service.name": "test", "process.pid": 42, "host.name": "here",
            "distfun.manager.id": 1,
        });
        for (name, value) in fields.as_object().expect("fields") {
            line[name] = value.clone();
        }
        self.seq += 1;
        let text = format!("{line}\n");
        self.file.write_all(text.as_bytes()).unwrap();
    }
}

/// `distfun dashboard`, until it is dropped.
struct Dashboard {
    process: Child,
    url: String,
}

impl Dashboard {
    fn start(arguments: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", arguments)
    }

    fn start_at(address: &str, arguments: &[&str]) -> Self {
        let mut command = distfun();
        command.args(["dashboard", "--address", address]).args(arguments).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let url = said.split_whitespace().find(|word| word.starts_with("http://")).expect("an address").to_owned();
        Self { process, url }
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.stop();
    }
}

const HOSTILE: &str = "<img src=x onerror=alert(1)></script><script>document.title='broken'</script>";

fn chunk(worker: u64, index: u64, more: Value) -> Value {
    let mut fields = json!({
        "distfun.worker.id": worker, "distfun.worker.generation": 0, "distfun.job.id": 7, "distfun.function.name": HOSTILE,
        "distfun.chunk.index": index, "distfun.chunk.items": 1, "distfun.chunk.attempt": 1, "distfun.sampling_ratio": 1.0,
    });
    for (name, value) in more.as_object().expect("fields") {
        fields[name] = value.clone();
    }
    fields
}

#[test]
fn a_dashboard_shows_within_a_second_what_a_growing_log_tells() {
    let Some(browser) = Browser::start() else { return };
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.ndjson");
    let mut log = Log::create(&path, "boot-a");
    log.say("INFO", "session.opened", "manager 1 opens", json!({ "distfun.workers.cpu": 2 }));
    for worker in 0..2 {
        log.say(
            "INFO",
            "worker.started",
            "worker started",
            json!({ "distfun.worker.id": worker, "distfun.worker.generation": 0, "distfun.worker.kind": "cpu" }),
        );
    }
    let node = json!({ "distfun.node.id": 0, "distfun.machine": "oak:2718" });
    let with = |more: Value| {
        let mut fields = node.clone();
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fields
    };
    log.say(
        "INFO",
        "node.connected",
        "oak is connected",
        with(json!({ "distfun.node.name": "oak", "distfun.workers.total": 4, "distfun.rtt_s": 0.001 })),
    );
    let job = json!({ "distfun.job.id": 7, "distfun.function.name": HOSTILE, "distfun.items.total": 40, "distfun.mode": "items" });
    log.say("INFO", "job.submitted", HOSTILE, job);
    log.say("DEBUG", "chunk.started", "chunk", chunk(0, 0, json!({})));

    let mut dashboard = Dashboard::start(&[path.to_str().unwrap()]);
    browser.look("dark", 1400, 1200);
    browser.open(&dashboard.url);
    browser.wait("document.querySelector('#mode').textContent.includes('live')");
    browser.wait("document.querySelectorAll('#calls .call').length === 1");
    assert!(browser.text("#tree").contains("item 0 for "), "{}", browser.text("#tree"));
    assert!(browser.text("#calls").contains(HOSTILE) && browser.text("#story").contains(HOSTILE));
    assert_eq!(browser.run("return document.querySelectorAll('img').length"), 0);
    assert!(browser.text("#concerns").contains("Nothing is wrong"));

    // Time goes on, though nothing is told.
    browser.wait("document.querySelector('#tree').innerText.includes('item 0 for 2 s')");

    log.say("DEBUG", "chunk.dispatched", "chunk", with(json!({ "distfun.job.id": 7, "distfun.function.name": "f", "distfun.chunk.index": 5, "distfun.chunk.items": 3 })));
    browser.wait("document.querySelector('#nodes').innerText.includes('1 of 4')");

    let since = Instant::now();
    log.say(
        "DEBUG",
        "chunk.finished",
        "chunk",
        chunk(0, 0, json!({ "distfun.outcome": "success", "distfun.items.done": 1, "distfun.compute_s": 1.5 })),
    );
    log.say("WARN", "worker.restarted", "worker 1 is restarted", json!({ "distfun.worker.id": 1, "distfun.worker.generation": 0, "distfun.cause": "signal", "distfun.backoff_s": 30.0 }));
    log.say(
        "ERROR",
        "node.lost",
        "oak is lost",
        with(json!({ "error.message": "no answer", "distfun.chunks.requeued": 3 })),
    );
    let restarted = "document.querySelector('#tree').innerText.includes('restarted once')";
    let lost = "document.querySelector('#tree').innerText.includes('lost once, 3 chunks requeued')";
    browser.wait(&format!("{restarted} && {lost} && document.querySelector('#nodes').innerText.includes('lost')"));
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert!(browser.text("#concerns").contains("oak:2718 has been lost for"), "{}", browser.text("#concerns"));
    assert!(browser.text("#nodes").contains("0 of 4"), "nothing runs on a lost machine: {}", browser.text("#nodes"));
    let stream = browser.text("#stream");
    assert!(stream.contains("2 chunks, 1 lost"), "what the machine had is drawn until its loss: {stream}");
    assert_ne!(browser.run("return document.title"), "broken");
    // The stream follows the present until somebody takes hold of it, and again on a double click.
    let of = |what: &str| {
        browser.run(&format!("return Math.round(document.querySelector('canvas').getBoundingClientRect().{what})"))
    };
    let place = (of("left").as_i64().unwrap() + 600, of("top").as_i64().unwrap() + 20);
    let follows =
        |is: bool| format!("document.querySelector('[data-does=follow]').getAttribute('aria-pressed') === '{is}'");
    browser.wait(&follows(true));
    browser.drag(place, (place.0 - 100, place.1));
    browser.wait(&follows(false));
    let range = || browser.run("return document.querySelector('canvas').getAttribute('aria-label')");
    let before = range();
    thread::sleep(Duration::from_millis(600));
    assert_eq!(range(), before, "it stays where it was put");
    browser.wheel(place, 200);
    browser.wait(&format!("document.querySelector('canvas').getAttribute('aria-label') !== {before}"));
    browser.double_click(place);
    browser.wait(&follows(true));
    browser.picture("dashboard-dark");
    browser.look("light", 1400, 1200);
    browser.wait("getComputedStyle(document.body).backgroundColor === 'rgb(244, 245, 247)'");
    browser.picture("dashboard-light");
    assert_quiet(&browser, &dashboard.url);

    // It ends, and is there again.
    let address = dashboard.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    dashboard.stop();
    browser.wait("document.querySelector('#mode').textContent.includes('no answer')");
    assert!(browser.text("#tree").contains("restarted once"), "what was known is still shown");
    browser.picture("dashboard-broken");
    log.say(
        "WARN",
        "worker.restarted",
        "worker 0 is restarted",
        json!({ "distfun.worker.id": 0, "distfun.worker.generation": 0, "distfun.cause": "signal" }),
    );
    let _again = Dashboard::start_at(&address, &[path.to_str().unwrap()]);
    browser.wait("document.querySelector('#mode').textContent.includes('live')");
    browser.wait("document.querySelector('#story').innerText.includes('worker 0 is restarted')");
}

/// Its workers were "up" while they computed, and it was "draining" for ever when the program had ended.
#[test]
fn a_node_is_shown_at_work_and_then_as_ended() {
    let Some(browser) = Browser::start() else { return };
    let folder = TempDir::new().unwrap();
    let paths = ["run", "oak"].map(|name| folder.path().join(name).with_extension("ndjson"));
    let mut oak = Log::create(&paths[1], "boot-oak");
    for worker in 0..2 {
        let fields = json!({ "distfun.worker.id": worker, "distfun.worker.generation": 0 });
        oak.say("INFO", "worker.started", "worker started", fields);
    }
    let serves = json!({ "distfun.node.name": "oak", "distfun.address": "oak:2718", "distfun.workers.total": 2 });
    oak.say("INFO", "node.started", "oak serves", serves);
    let mut log = Log::create(&paths[0], "boot-a");
    let node = |more: Value| {
        let mut fields = json!({ "distfun.node.id": 0, "distfun.machine": "oak:2718" });
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fields
    };
    let connected = node(json!({ "distfun.node.name": "oak", "distfun.workers.total": 2 }));
    log.say("INFO", "node.connected", "oak is connected", connected);
    let dispatch = |log: &mut Log, index: u64| {
        let chunk = json!({ "distfun.job.id": 7, "distfun.function.name": "f", "distfun.chunk.index": index, "distfun.chunk.items": 1 });
        log.say("DEBUG", "chunk.dispatched", "chunk", node(chunk));
    };
    dispatch(&mut log, 0);
    let dashboard = Dashboard::start(&paths.each_ref().map(|path| path.to_str().unwrap()));
    browser.look("light", 1400, 1200);
    browser.open(&dashboard.url);
    let states = |section: &str, state: &str| {
        format!(
            "[...document.querySelectorAll('#{section} tbody tr')].map((row) => row.innerText).filter((text) => text.includes('{state}')).length"
        )
    };
    browser.wait(&format!("{} === 2", states("workers", "serving")));
    browser.picture("node-serving");
    dispatch(&mut log, 1);
    browser.wait(&format!("{} === 2", states("workers", "busy")));
    assert!(browser.text("#tree").contains("2 of 2 workers busy"), "{}", browser.text("#tree"));
    log.say("INFO", "node.draining", "oak stops", node(json!({ "distfun.chunks.running": 2 })));
    browser.wait(&format!("{} === 1", states("nodes", "draining")));
    log.say("INFO", "manager.stopped", "manager 1 stopped", json!({ "distfun.reason": "shutdown" }));
    browser.wait(&format!("{} === 1", states("nodes", "ended")));
    assert_eq!(browser.run("return document.querySelectorAll('#nodes .dot.gone').length"), 1);
    browser.picture("node-ended");
    assert_quiet(&browser, &dashboard.url);
}

#[test]
fn a_replay_goes_on_and_a_moment_stands_still() {
    let Some(browser) = Browser::start() else { return };
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.ndjson");
    let mut log = Log::create(&path, "boot-a");
    let begin = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    for second in 0..100 {
        let at = begin + Duration::from_secs(second);
        log.say_at(
            at,
            "WARN",
            "worker.restarted",
            &format!("line {second}."),
            json!({ "distfun.worker.id": 1, "distfun.worker.generation": second, "distfun.cause": "panic" }),
        );
    }
    let still = Dashboard::start(&["--at", "42", path.to_str().unwrap()]);
    browser.open(&still.url);
    browser.wait("document.querySelector('#story').innerText.includes('line 42.')");
    assert!(browser.text("#mode").contains("replay, still") && !browser.text("#story").contains("line 43."));
    let replay = Dashboard::start(&["--at", "42", "--speed", "10", path.to_str().unwrap()]);
    browser.open(&replay.url);
    browser.wait("document.querySelector('#story').innerText.includes('line 45.')");
    assert!(browser.text("#mode").contains("replay ×10"));
    browser.wait("document.querySelector('#mode').textContent.includes('at the end')");
    browser.wait("document.querySelector('#story').innerText.includes('line 99.')");
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_thousand_workers_and_ten_thousand_chunks_are_drawn_in_time() {
    let Some(browser) = Browser::start() else { return };
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.ndjson");
    let mut log = Log::create(&path, "boot-a");
    let begin = SystemTime::now() - Duration::from_secs(110);
    for worker in 0..1000 {
        log.say_at(
            begin,
            "INFO",
            "worker.started",
            "worker started",
            json!({ "distfun.worker.id": worker, "distfun.worker.generation": 0, "distfun.worker.kind": "cpu" }),
        );
    }
    log.say_at(begin, "INFO", "job.submitted", "a call", json!({ "distfun.job.id": 7, "distfun.function.name": "f", "distfun.items.total": 20_000, "distfun.mode": "items" }));
    for index in 0..11_000 {
        let at = begin + Duration::from_millis(10 * index);
        let outcome = if index % 50 == 0 { "failure" } else { "success" };
        let more = json!({ "distfun.outcome": outcome, "distfun.items.done": 1, "distfun.compute_s": 5.0, "distfun.function.name": format!("f{}", index % 7) });
        log.say_at(at, "DEBUG", "chunk.finished", "chunk", chunk(index % 1000, index, more));
    }
    for worker in 0..900 {
        log.say("DEBUG", "chunk.started", "chunk", chunk(worker, 11_000 + worker, json!({})));
    }
    let dashboard = Dashboard::start(&[path.to_str().unwrap()]);
    browser.look("light", 1400, 1400);
    browser.open(&dashboard.url);
    browser.wait("performance.getEntriesByName('distfun.redraw').length");
    browser.picture("thousand-light");
    let mut redraws = Vec::new();
    for number in 0..12 {
        log.say(
            "DEBUG",
            "chunk.finished",
            "chunk",
            chunk(
                number,
                11_000 + number,
                json!({ "distfun.outcome": "success", "distfun.items.done": 1, "distfun.compute_s": 1.0 }),
            ),
        );
        thread::sleep(Duration::from_millis(600));
        let took = browser.run("return performance.getEntriesByName('distfun.redraw')[0].duration");
        redraws.push(took.as_f64().unwrap());
    }
    redraws.sort_by(f64::total_cmp);
    println!("redraws: {redraws:.1?} ms");
    let median = redraws[redraws.len() / 2];
    // On a machine of its own: 50 ms. Here, others may compute at the same time.
    assert!(median < 150.0, "{redraws:?}");
    assert!(browser.text("footer").contains("1,0"), "what was left out is said: {}", browser.text("footer"));
    assert!(browser.text("#workers").contains("Show all 1,000"), "{}", browser.text("#workers"));
    assert_quiet(&browser, &dashboard.url);
}
