use std::sync::mpsc;

use serde_json::Value;

use super::*;

/// Where the writer writes; `plan` says what it does each time.
#[derive(Clone)]
struct Disk {
    written: Arc<Mutex<Vec<u8>>>,
    plan: Arc<Mutex<Vec<Turn>>>,
}

enum Turn {
    /// Wait until told.
    Stick(mpsc::Receiver<()>),
    Fail,
    /// Take this many bytes only.
    Short(usize),
    Panic,
}

impl Disk {
    /// The first turn of `plan` comes first; then everything is taken.
    fn new(plan: impl IntoIterator<Item = Turn>) -> Self {
        let mut plan: Vec<Turn> = plan.into_iter().collect();
        plan.reverse();
        Self { written: Arc::default(), plan: Arc::new(Mutex::new(plan)) }
    }

    fn lines(&self) -> Vec<Value> {
        let written = String::from_utf8(self.written.lock().unwrap().clone()).unwrap();
        assert!(written.is_empty() || written.ends_with('\n'), "{written}");
        written.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let turn = self.plan.lock().unwrap().pop();
        let count = match turn {
            Some(Turn::Stick(until)) => {
                let _ = until.recv();
                bytes.len()
            }
            Some(Turn::Fail) => return Err(io::Error::from(io::ErrorKind::StorageFull)),
            Some(Turn::Short(count)) => count,
            Some(Turn::Panic) => panic!("as asked"),
            None => bytes.len(),
        };
        self.written.lock().unwrap().extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn queue(lines: usize, disk: &Disk) -> Arc<Queue> {
    let queue = Arc::new(Queue::new(lines, b",\"who\":\"me\"".to_vec(), Vec::new()));
    start(queue.clone(), Box::new(disk.clone())).unwrap();
    queue
}

fn say(queue: &Queue, level: Level, count: usize) {
    (0..count).for_each(|_| queue.push(level, format!("{{\"level\":\"{level}\"").as_bytes()));
}

const LONG: Duration = Duration::from_secs(20);

/// Every number is there once, or counted by a `log.dropped` line after it.
fn check_numbers(lines: &[Value]) {
    let mut missing = 0;
    let mut next = 0;
    for line in lines {
        let seq = line["distfun.seq"].as_u64().unwrap();
        assert!(seq >= next, "in order: {line}");
        missing += seq - next;
        next = seq + 1;
        if line["otel.event.name"] == "distfun.log.dropped" {
            let total = line["distfun.dropped.total"].as_u64().unwrap();
            let parts = ["debug", "info", "warn", "unwritten"];
            let sum: u64 = parts.map(|part| line[format!("distfun.dropped.{part}")].as_u64().unwrap()).iter().sum();
            assert_eq!((total, sum), (missing, missing), "{line}");
            missing = 0;
        }
    }
    assert_eq!(missing, 0);
}

#[test]
fn lines_come_out_in_order_with_their_numbers_and_the_first_says_who() {
    let disk = Disk::new([]);
    let queue = queue(10_000, &disk);
    say(&queue, Level::INFO, 1000);
    assert!(queue.flush(LONG));
    let lines = disk.lines();
    assert_eq!(lines.len(), 1000);
    assert!(
        lines.iter().enumerate().all(|(at, line)| line["distfun.seq"] == at && line["who"].is_string() == (at == 0))
    );
}

#[test]
fn a_stuck_writer_costs_debug_lines_first_and_warnings_last_and_the_log_says_so() {
    let (go, until) = mpsc::channel();
    let disk = Disk::new([Turn::Stick(until)]);
    let queue = queue(80, &disk);
    say(&queue, Level::INFO, 1);
    // The writer has that line and is stuck; now the queue fills.
    while queue.lock().count > 0 {
        thread::yield_now();
    }
    say(&queue, Level::DEBUG, 100);
    say(&queue, Level::INFO, 100);
    say(&queue, Level::TRACE, 5);
    say(&queue, Level::ERROR, 15);
    say(&queue, Level::WARN, 10);
    assert!(!queue.flush(Duration::from_millis(20)), "nothing is written");
    go.send(()).unwrap();
    assert!(queue.flush(LONG));
    let lines = disk.lines();
    let count = |level: &str| lines.iter().filter(|line| line["level"] == level && line["message"].is_null()).count();
    assert_eq!(["DEBUG", "INFO", "TRACE", "ERROR", "WARN"].map(count), [40, 20 + 1, 0, 15, 5]);
    let dropped: Vec<_> = lines.iter().filter(|line| line["otel.event.name"] == "distfun.log.dropped").collect();
    let [dropped] = dropped[..] else { panic!("{dropped:?}") };
    assert_eq!(dropped["distfun.dropped.debug"], 60 + 5);
    assert_eq!(dropped["distfun.dropped.info"], 80);
    assert_eq!(dropped["distfun.dropped.warn"], 5);
    assert!(dropped["distfun.since_s"].as_f64().unwrap() >= 0.02, "{dropped}");
    check_numbers(&lines);
}

#[test]
fn a_full_disk_loses_what_could_not_be_written_and_says_so_when_it_takes_lines_again() {
    for plan in [vec![Turn::Fail], vec![Turn::Short(30), Turn::Fail], vec![Turn::Fail, Turn::Fail, Turn::Short(1)]] {
        let failures = plan.iter().filter(|turn| matches!(turn, Turn::Fail)).count();
        let disk = Disk::new(plan);
        let queue = queue(100, &disk);
        for _ in 0..=failures {
            say(&queue, Level::INFO, 3);
            queue.flush(LONG);
        }
        let lines = disk.lines();
        let dropped = lines.iter().find(|line| line["otel.event.name"] == "distfun.log.dropped").unwrap();
        assert!(dropped["distfun.dropped.unwritten"].as_u64().unwrap() >= 1, "{dropped}");
        assert!(dropped["error.message"].is_string(), "{dropped}");
        check_numbers(&lines);
    }
}

#[test]
fn what_is_lost_is_told_without_another_word_being_said() {
    let disk = Disk::new([Turn::Fail]);
    let queue = queue(100, &disk);
    say(&queue, Level::INFO, 1);
    let start = Instant::now();
    while disk.lines().is_empty() {
        assert!(start.elapsed() < LONG);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(disk.lines()[0]["distfun.dropped.unwritten"], 1);
}

#[test]
fn a_writer_that_panics_harms_nobody() {
    let disk = Disk::new([Turn::Panic]);
    let queue = queue(100, &disk);
    say(&queue, Level::INFO, 10);
    assert!(queue.flush(LONG), "nothing is left to wait for");
    say(&queue, Level::INFO, 1000);
    assert!(disk.lines().is_empty());
}

#[test]
fn the_thread_ends_when_the_layer_is_gone_and_all_is_written() {
    let disk = Disk::new([]);
    let queue = queue(100, &disk);
    say(&queue, Level::INFO, 50);
    queue.close();
    let start = Instant::now();
    while Arc::strong_count(&queue) > 1 {
        assert!(start.elapsed() < LONG);
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(disk.lines().len(), 50);
}
