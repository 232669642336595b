//! A log that can't keep up.

use std::{
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use distfun::{distribute, log};
use tracing::Level;

use super::{
    check::{Memory, check_line, check_numbers, lines_of},
    plus,
};
use crate::support::{Gate, LIMIT, alone};

/// Takes nothing until its gate opens.
struct Stuck {
    gate: Arc<Gate>,
    memory: Memory,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gate.pass();
        self.memory.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_writer_holds_nobody_up_and_what_is_lost_is_counted() {
    alone(|| {
        let (gate, memory) = (Arc::new(Gate::new()), Memory::default());
        let stuck = Stuck { gate: gate.clone(), memory: memory.clone() };
        let log = log::json().writer(stuck).level(Level::DEBUG).queue(200).init().unwrap();
        let dfun = distribute!(plus).slots(2).endaftercall(false).build().unwrap();
        let start = Instant::now();
        for _ in 0..2000 {
            assert_eq!(dfun.map(0..10).wait().unwrap().len(), 10);
        }
        assert!(start.elapsed() < LIMIT / 2, "{:?}", start.elapsed());
        for _ in 0..10 {
            tracing::warn!("kept");
        }
        assert!(!log.flush(Duration::from_millis(10)));
        gate.open();
        assert!(log.flush(LIMIT));
        dfun.finished().unwrap();
        drop(log);
        let lines = memory.lines();
        lines.iter().for_each(check_line);
        check_numbers(&lines);
        let dropped = lines_of(&lines, "log.dropped");
        assert!(!dropped.is_empty());
        let total: u64 = dropped.iter().map(|line| line["distfun.dropped.total"].as_u64().unwrap()).sum();
        assert!(total > 2000, "{total}");
        assert!(dropped.iter().all(|line| line["distfun.dropped.warn"] == 0), "{dropped:?}");
        assert_eq!(lines.iter().filter(|line| line["message"] == "kept").count(), 10);
    });
}
