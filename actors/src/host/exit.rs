//! How a process ended, in words.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use distfun_core::failure::WorkerExit;

const SIGNALS: [(i32, &str); 12] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (13, "SIGPIPE"),
    (15, "SIGTERM"),
    (31, "SIGSYS"),
];

/// What is known of a process that has ended by itself, and the last words on its stderr. `memory` says whether it wanted too
/// much of that.
pub(crate) fn of(status: ExitStatus, stderr: &str, memory: Option<String>) -> WorkerExit {
    let story = match (status.signal(), status.code()) {
        (Some(signal), _) => {
            let name = SIGNALS.iter().find(|(number, _)| *number == signal);
            let name = name.map_or_else(|| format!("signal {signal}"), |(_, name)| format!("{name} (signal {signal})"));
            // The kernel kills so when memory runs out, and nobody else says so.
            let hint = if signal == 9 && memory.is_none() { ", as the system does when memory runs out" } else { "" };
            format!("was killed by {name}{hint}")
        }
        (None, Some(code)) => format!("ended its process with code {code}"),
        (None, None) => "ended in an unknown way".into(),
    };
    let story = memory.map_or_else(|| story.clone(), |memory| format!("{memory}, and {story}"));
    WorkerExit::new(status.signal(), story, stderr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_and_codes_have_words() {
        let text = |raw| of(ExitStatus::from_raw(raw), "", None).to_string();
        assert_eq!(text(11), "was killed by SIGSEGV (signal 11)");
        assert_eq!(text(0), "ended its process with code 0");
        assert_eq!(text(3 << 8), "ended its process with code 3");
        let exit = of(ExitStatus::from_raw(6), "thread 'main' has overflowed its stack\n", None);
        assert_eq!(
            exit.to_string(),
            "was killed by SIGABRT (signal 6); its last words: thread 'main' has overflowed its stack"
        );
        assert_eq!(exit.signal, Some(6));
        let exit = of(ExitStatus::from_raw(9), "", Some("wanted more".into()));
        assert_eq!(exit.to_string(), "wanted more, and was killed by SIGKILL (signal 9)");
    }
}
