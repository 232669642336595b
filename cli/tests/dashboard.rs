//! `distfun dashboard` and `distfun report` as programs meet them: HTTP, and who must not get in or in the way.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/logs/manager.ndjson")
}

fn distfun() -> Command {
    Command::new(env!("CARGO_BIN_EXE_distfun"))
}

/// Until it is dropped.
struct Dashboard {
    process: Child,
    address: String,
}

impl Dashboard {
    fn start(log: &Path) -> Self {
        let mut command = distfun();
        command
            .args(["dashboard", "--address", "127.0.0.1:0"])
            .arg(log)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut process = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let url = said.split_whitespace().find_map(|word| word.strip_prefix("http://")).expect("an address");
        Self { address: url.trim_end_matches('/').to_owned(), process }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn send(&self, head: &str) -> BufReader<TcpStream> {
        let mut stream = self.connect();
        stream.write_all(head.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// The whole answer to a request that ends the connection.
    fn ask(&self, method: &str, path: &str, host: &str, more: &str) -> String {
        let mut answer = String::new();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n");
        let _ = self.send(&head).read_to_string(&mut answer);
        answer
    }

    fn get(&self, path: &str) -> String {
        self.ask("GET", path, &self.address, "")
    }

    /// By HTTP 1.0, which does not cut them into chunks.
    fn events(&self) -> Events {
        let head = format!("GET /events HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        Events { answer: self.send(&head) }
    }

    #[cfg(target_os = "linux")]
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Events {
    answer: BufReader<TcpStream>,
}

impl Events {
    /// The next event of this name.
    fn next(&mut self, name: &str) -> Value {
        let wanted = format!("event: {name}");
        let mut line = String::new();
        let mut is_it = false;
        let since = Instant::now();
        loop {
            assert!(since.elapsed() < Duration::from_secs(20), "no {name}");
            line.clear();
            assert!(self.answer.read_line(&mut line).expect("in time") > 0, "the stream has ended");
            match line.trim_end().strip_prefix("data: ") {
                Some(json) if is_it => return serde_json::from_str(json).unwrap(),
                Some(_) => {}
                None => is_it |= line.trim_end() == wanted,
            }
        }
    }
}

fn status(answer: &str) -> &str {
    answer.split_whitespace().nth(1).unwrap_or("nothing")
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("head and body").1
}

#[test]
fn events_are_first_the_whole_picture_and_then_what_is_new() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.ndjson");
    let log = fs::read_to_string(kept()).unwrap();
    let lines: Vec<_> = log.lines().collect();
    let (first, rest) = lines.split_at(100);
    fs::write(&path, first.join("\n") + "\n").unwrap();
    let dashboard = Dashboard::start(&path);
    let mut events = dashboard.events();
    let about = events.next("about");
    assert_eq!((&about["mode"], &about["chunks"]), (&"live".into(), &10_000.into()));
    let whole = events.next("whole");
    let numbers = |picture: &Value, field: &str| -> Vec<u64> {
        picture[field].as_array().unwrap().iter().map(|it| it["number"].as_u64().unwrap()).collect()
    };
    assert_eq!((whole["form"].as_u64(), whole["losses"]["lines"].as_u64()), (Some(1), Some(100)));
    let (spans, story) = (numbers(&whole, "spans"), numbers(&whole, "story"));
    assert!(!spans.is_empty() && !story.is_empty());
    assert!(
        whole["explanations"].as_array().unwrap().iter().any(|it| it["text"].as_str().unwrap().contains("call 1 ("))
    );

    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all((rest.join("\n") + "\n").as_bytes()).unwrap();
    let (mut later, mut lines_read) = (spans.clone(), 0);
    while lines_read < lines.len() as u64 {
        let news = events.next("news");
        lines_read = news["losses"]["lines"].as_u64().unwrap();
        later.extend(numbers(&news, "spans"));
    }
    assert_eq!(later, (0..later.len() as u64).collect::<Vec<_>>(), "each once");
    let after = dashboard.events().next("whole");
    assert_eq!(numbers(&after, "spans"), later);
    // Nothing new, and nothing is told twice; but time goes on, as the program has not said its end.
    let news = events.next("news");
    assert_eq!((&news["spans"], &news["story"]), (&Value::Array(vec![]), &Value::Array(vec![])));
}

#[test]
fn it_answers_to_its_own_names_only_and_changes_nothing() {
    let dashboard = Dashboard::start(&kept());
    let port = dashboard.address.rsplit_once(':').unwrap().1;
    for host in ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.1.2.3"] {
        for host in [host.to_owned(), format!("{host}:{port}"), format!("{host}:8787")] {
            assert_eq!(status(&dashboard.ask("GET", "/", &host, "")), "200", "{host}");
        }
    }
    for host in [
        "",
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::2]",
        "a@localhost",
        "localhost:80:80",
    ] {
        for path in ["/", "/events", "/status.json", "/nothing"] {
            let answer = dashboard.ask("GET", path, host, "");
            assert!(["403", "400"].contains(&status(&answer)), "{host}: {answer}");
        }
    }
    let twice = dashboard.ask("GET", "/", "localhost", "Host: evil.example\r\n");
    assert!(["403", "400"].contains(&status(&twice)), "{twice}");
    assert_eq!(status(&dashboard.ask("GET", "http://evil.example/", "localhost", "")), "403");
    // A page from elsewhere that asks behind its reader's back.
    for site in ["cross-site", "same-site"] {
        let from = format!("Sec-Fetch-Site: {site}\r\n");
        assert_eq!(status(&dashboard.ask("GET", "/status.json", "localhost", &from)), "403");
        assert_eq!(status(&dashboard.ask("GET", "/", "localhost", &from)), "200", "a link to the page");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        for path in ["/", "/events", "/status.json"] {
            let answer = dashboard.ask(method, path, "localhost", "Content-Length: 0\r\n");
            assert_eq!(status(&answer), "405", "{method} {path}: {answer}");
        }
    }
    assert_eq!(status(&dashboard.get("/nothing")), "404");
    assert_eq!(status(&dashboard.get("/../etc/passwd")), "404");
    let head = dashboard.ask("HEAD", "/", "localhost", "");
    assert_eq!((status(&head), body(&head)), ("200", ""));
}

#[test]
fn every_answer_carries_a_policy_that_lets_nothing_else_in() {
    let dashboard = Dashboard::start(&kept());
    for path in ["/", "/status.json", "/nothing"] {
        let answer = dashboard.get(path).to_ascii_lowercase();
        let head = answer.split_once("\r\n\r\n").unwrap().0;
        for line in [
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(head.contains(line), "{path} lacks {line}: {head}");
        }
        let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).expect("a policy");
        for part in [
            "default-src 'none'",
            "script-src 'sha256-",
            "style-src 'sha256-",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !head.contains("access-control"), "{head}");
    }
    assert!(dashboard.get("/").contains("text/html; charset=utf-8"));
}

#[test]
fn the_picture_for_programs_is_that_of_status() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.ndjson");
    // Whose programs have all ended: no time goes on.
    let log = fs::read_to_string(kept()).unwrap();
    let end = log.lines().position(|line| line.contains("distfun.manager.stopped")).unwrap();
    fs::write(&path, log.lines().take(end + 1).collect::<Vec<_>>().join("\n") + "\n").unwrap();
    let dashboard = Dashboard::start(&path);
    let answer = dashboard.get("/status.json");
    assert!(answer.to_ascii_lowercase().contains("content-type: application/json"));
    let served: Value = serde_json::from_str(body(&answer)).unwrap();
    let printed = distfun().args(["status", "--json"]).arg(&path).output().unwrap().stdout;
    assert_eq!(served, serde_json::from_slice::<Value>(&printed).unwrap());
}

#[test]
fn other_machines_are_refused_with_the_remedy() {
    for address in ["0.0.0.0:0", "[::]:0", "192.168.1.2:8787", "[::ffff:10.0.0.1]:0"] {
        let output = distfun().args(["dashboard", "--address", address]).arg(kept()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("can be reached by other machines") && said.contains("ssh -L 8787:127.0.0.1:8787 HOST"),
            "{said}"
        );
        assert!(output.stdout.is_empty());
    }
    let dashboard = Dashboard::start(&kept());
    let output = distfun().args(["dashboard", "--address", &dashboard.address]).arg(kept()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("is in use: take another"), "{said}");
    let output = distfun().args(["dashboard", "missing.ndjson"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("missing.ndjson can't be read"), "{said}");
}

#[test]
fn who_sends_garbage_or_nothing_or_takes_nothing_holds_nobody_up() {
    let dashboard = Dashboard::start(&kept());
    assert_eq!(status(&dashboard.get("/")), "200");
    let garbage: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        &[b'a'; 1 << 20],
    ];
    for garbage in garbage {
        let mut stream = dashboard.connect();
        let _ = stream.write_all(garbage);
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let _ = stream.read(&mut [0; 100]);
    }
    // As many as come: the oldest that got nothing are ended.
    let idle: Vec<_> = (0..1000).filter_map(|_| TcpStream::connect(&dashboard.address).ok()).collect();
    assert_eq!(idle.len(), 1000);
    let since = Instant::now();
    assert_eq!(status(&dashboard.get("/status.json")), "200");
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    drop(idle);

    // More pages than there is room for, none of which reads.
    let pages: Vec<_> = (0..80).map(|_| dashboard.events()).collect();
    let since = Instant::now();
    while status(&dashboard.get("/events")) != "503" {
        assert!(since.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(status(&dashboard.get("/status.json")), "200");
    drop(pages);
    let mut events = dashboard.events();
    events.next("whole");
}

#[cfg(target_os = "linux")]
#[test]
fn pages_that_take_nothing_cost_no_memory_and_others_get_the_newest() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("run.ndjson");
    let line = |seq: u64| {
        format!(
            "{{\"timestamp\":\"2026-01-01T00:00:00.000000Z\",\"level\":\"WARN\",\"target\":\"t\",\"message\":\"{}\",\
             \"distfun.boot_id\":\"a\",\"distfun.seq\":{seq}}}\n",
            "x".repeat(2000)
        )
    };
    fs::write(&path, (0..1000).map(line).collect::<String>()).unwrap();
    let dashboard = Dashboard::start(&path);
    let slow: Vec<_> = (0..40).map(|_| dashboard.events()).collect();
    let mut quick = dashboard.events();
    quick.next("whole");
    thread::sleep(Duration::from_millis(500));
    let before = dashboard.memory();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    for round in 1..=8_u64 {
        file.write_all((round * 1000..(round + 1) * 1000).map(line).collect::<String>().as_bytes()).unwrap();
        let since = Instant::now();
        while quick.next("news")["losses"]["lines"].as_u64() != Some((round + 1) * 1000) {}
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    }
    let grown = dashboard.memory().saturating_sub(before);
    println!("grown by {grown} kB, from {before} kB");
    assert!(grown < 60_000, "40 pages, 8 times 2 MB each, would be 640 MB; it was {grown} kB");
    drop(slow);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it_well() {
    let mut dashboard = Dashboard::start(&kept());
    let mut events = dashboard.events();
    events.next("whole");
    let id = dashboard.process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(dashboard.process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_report_says_what_was_cut_and_no_text_breaks_out_of_it() {
    let folder = TempDir::new().unwrap();
    let hostile = "</script><script>alert(1)</script><!--";
    let log = fs::read_to_string(kept()).unwrap().replace("page::weigh", hostile);
    let path = folder.path().join("run.ndjson");
    fs::write(&path, log).unwrap();
    let output = distfun().args(["report", "-o", "-", "--chunks", "20"]).arg(&path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("20 chunks in -, for a browser; ") && said.contains(" earlier ones were left out (--chunks)"),
        "{said}"
    );
    let html = String::from_utf8(output.stdout).unwrap();
    assert!(!html.contains(hostile) && html.contains(r"\u003c/script>\u003cscript>alert(1)"));
    assert_eq!(html.matches("</script>").count(), 3);
    let (_, json) = html.split_once("id=\"picture\">").unwrap();
    let picture: Value = serde_json::from_str(json.split_once("</script>").unwrap().0).unwrap();
    assert_eq!(picture["spans"].as_array().unwrap().len(), 20);
    assert_eq!(picture["spans"][0]["number"], picture["losses"]["spans_cut"]);
    let output = distfun().args(["report", "-o", "/nonexistent/run.html"]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nonexistent/run.html can't be written"));
}
