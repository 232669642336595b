//! What functions print in their processes.

use std::io::Write;

use distfun::{FailureCause, Isolation, distribute};

use super::Place;
use crate::{
    events::check::{Memory, check_line, lines_of},
    support::{LIMIT, alone, alone_heard, within},
};

fn chatty(x: u32) -> u32 {
    println!("out of {x}");
    eprintln!("err of {x}");
    x
}

#[test]
fn lines_come_back_with_their_item_where_nobody_listens() {
    alone_heard(
        || {
            let dfun = distribute!(chatty).slots(1).isolation(Isolation::Process).build().unwrap();
            assert_eq!(dfun.map(0..3u32).wait().unwrap(), [0, 1, 2]);
        },
        |stderr| {
            // Short items one after the other: one of them it was.
            for item in 0..3 {
                let line = stderr.lines().find(|line| line.ends_with(&format!("] err of {item}")));
                let line = line.unwrap_or_else(|| panic!("{item}: {stderr}"));
                assert!(line.contains(&format!(", item {item}]")) || line.contains(", one of items "), "{line}");
            }
        },
    );
}

#[test]
fn binary_output_and_much_of_it_harm_nobody() {
    fn binary(x: u32) -> u32 {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i * 7919) as u8).collect();
        std::io::stdout().write_all(&bytes).unwrap();
        std::io::stderr().write_all(&bytes).unwrap();
        x
    }
    alone_heard(
        || {
            let dfun = distribute!(binary).slots(2).isolation(Isolation::Process).build().unwrap();
            assert_eq!(dfun.map(0..20u32).wait().unwrap(), (0..20).collect::<Vec<_>>());
        },
        |stderr| assert!(stderr.contains("[worker "), "it is told"),
    );
}

#[test]
fn a_failure_has_the_last_words() {
    fn last_words(x: u32) -> u32 {
        if x == 1 {
            eprintln!("all is lost");
            std::process::exit(9);
        }
        x
    }
    within(|| {
        let dfun = distribute!(last_words).slots(1).isolation(Isolation::Process).build().unwrap();
        let error = dfun.map(0..3u32).wait().unwrap_err();
        let FailureCause::Poisoned { exit: Some(exit), .. } = &error.failed[0].cause else { panic!("{error}") };
        assert_eq!((&*exit.stderr, &*exit.story), ("all is lost", "ended its process with code 9"));
    });
}

#[test]
fn events_of_functions_come_back_with_level_and_item() {
    fn logs(x: u32) -> u32 {
        tracing::warn!(x, "halfway");
        tracing::debug!("not asked for");
        x
    }
    alone(|| {
        let memory = Memory::default();
        let log = distfun::log::json().writer(memory.clone()).init().unwrap();
        for place in [Place::Processes, Place::Node] {
            let dfun = place.of(distribute!(logs), 1).build().unwrap();
            assert_eq!(dfun.map(0..3u32).wait().unwrap(), [0, 1, 2]);
        }
        assert!(log.flush(LIMIT));
        let lines = memory.lines();
        lines.iter().for_each(check_line);
        let mut logged = lines_of(&lines, "worker.logged");
        // A node may run them side by side.
        logged.sort_by_key(|line| (line.get("distfun.machine").is_some(), line["distfun.item.index"].as_u64()));
        assert_eq!(logged.len(), 6, "{logged:?}");
        for (at, line) in logged.iter().enumerate() {
            let item = at % 3;
            assert_eq!(line["level"], "WARN");
            assert_eq!(line["distfun.output.text"], format!("halfway x={item}"));
            assert_eq!(line["distfun.item.index"], item, "{line:?}");
            assert!(line["distfun.logged.target"].as_str().unwrap().contains("isolation::output"), "{line:?}");
            assert_eq!(line.get("distfun.machine").is_some(), at >= 3, "{line:?}");
        }
    });
}
