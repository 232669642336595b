//! What the text of an ending tells its reader.

use distfun::Ending;

#[test]
fn the_text_of_every_ending_says_what_happened_and_what_to_do_next() {
    let table = [
        (Ending::EndedAfterCall, "ended after its first call", "build it with .endaftercall(false) to call it again"),
        (Ending::Finished, "finished() has ended", "build it again to go on"),
        (Ending::ShutDown, "shutdown() has ended", "build it again to go on"),
        (Ending::Cancelled, "was cancelled", "call again to run it anew"),
        (Ending::TimedOut, "ran out of time", "allow more with wait_timeout, or wait without a limit"),
        (Ending::Busy { max_calls: 7 }, "7 calls are active already", "wait for one to end, or raise .max_calls(7)"),
        (Ending::NoWorkers, "no worker is left", "see the log, then build anew"),
        (Ending::NoGpu, "not every machine has a GPU", "take another gpu_policy, or leave those machines out"),
        (
            Ending::WaitOnManager,
            "wait() was called on the Manager's own thread",
            "await the call there, or wait on another thread",
        ),
    ];
    for (ending, happened, remedy) in table {
        let text = ending.to_string();
        let (before, after) = text.split_once("; ").unwrap_or_else(|| panic!("no remedy in {text:?}"));
        assert!(before.contains(happened), "{text:?} does not say {happened:?}");
        assert_eq!(after, remedy, "{ending:?}");
        assert!(!text.ends_with('.') && !text.starts_with(char::is_uppercase), "{text:?} stands within a sentence");
    }
}
