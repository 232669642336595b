//! Screens of the demo story at fixed times, as kept texts (`REWRITE=1` writes them), and keys.

use std::{
    env, fs,
    path::Path,
    time::{Duration, Instant},
};

use distfun_core::view::{Limits, Line, Time, View};
use proptest::prelude::*;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    demo::{self, Demo},
    draw,
    look::{Look, Mark},
    play::{Feed, Player},
    press::{Act, press},
    seen::{Going, Seen},
    ui::{Key, Screen, Ui},
};
use crate::{
    logs::{Logs, wall_clock},
    status::Moment,
};

const PLAIN: Look = Look { has_colours: false, has_attributes: false, is_unicode: true };
const COLOURED: Look = Look { has_colours: true, has_attributes: true, is_unicode: true };
const ASCII: Look = Look { has_colours: false, has_attributes: false, is_unicode: false };

fn story(seconds: f64) -> View {
    let mut view = View::new(Limits::default());
    Demo::default().seek(Moment::After(seconds), &mut view);
    view
}

fn seen(view: &View, now: Time) -> Seen<'_> {
    Seen { view, now, going: Going::Live, reading: None, lines_per_s: 12.0, is_demo: true }
}

fn shown(view: &View, ui: &Ui, look: Look, width: u16, height: u16) -> String {
    draw::text(&draw::buffer(&seen(view, view.now()), ui, look, width, height))
}

/// Presses what the letters and names say: `j`, `<enter>`.
fn type_in(ui: &mut Ui, view: &View, keys: &str) -> Act {
    let mut act = Act::None;
    let mut rest = keys;
    while let Some(char) = rest.chars().next() {
        let (code, length) = match char {
            '<' if rest.contains('>') => {
                let end = rest.find('>').unwrap();
                let code = match &rest[1..end] {
                    "enter" => KeyCode::Enter,
                    "esc" => KeyCode::Esc,
                    "tab" => KeyCode::Tab,
                    "backtab" => KeyCode::BackTab,
                    "left" => KeyCode::Left,
                    "right" => KeyCode::Right,
                    "end" => KeyCode::End,
                    "down" => KeyCode::PageDown,
                    "up" => KeyCode::PageUp,
                    other => panic!("{other} is no key"),
                };
                (code, end + 1)
            }
            char => (KeyCode::Char(char), char.len_utf8()),
        };
        rest = &rest[length..];
        act = press(ui, &seen(view, view.now()), KeyEvent::new(code, KeyModifiers::NONE));
    }
    act
}

/// Compares with the kept text of this name.
fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/screens").join(name).with_extension("txt");
    if env::var_os("REWRITE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(path, text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{} was, REWRITE=1 writes what is:\n{kept}\n{text}", path.display());
}

#[test]
fn every_screen_of_the_story_is_as_kept() {
    let view = story(20.0);
    for screen in Screen::ALL {
        let name = screen.name();
        check(&format!("{name}-80x24"), &shown(&view, &Ui::new(screen), PLAIN, 80, 24));
        check(&format!("{name}-40x10"), &shown(&view, &Ui::new(screen), PLAIN, 40, 10));
    }
    for screen in [Screen::Overview, Screen::Tree, Screen::Calls, Screen::Chunks] {
        check(&format!("{}-120x40", screen.name()), &shown(&view, &Ui::new(screen), PLAIN, 120, 40));
    }
}

#[test]
fn the_beginning_the_middle_and_the_end_are_as_kept() {
    for seconds in [0.5, 8.0, 34.0, 60.0] {
        check(&format!("overview-at-{seconds}"), &shown(&story(seconds), &Ui::new(Screen::Overview), PLAIN, 80, 24));
    }
    check("overview-ascii", &shown(&story(34.0), &Ui::new(Screen::Overview), ASCII, 80, 24));
    check("chunks-ascii", &shown(&story(34.0), &Ui::new(Screen::Chunks), ASCII, 80, 24));
    check("chunks-coloured", &shown(&story(34.0), &Ui::new(Screen::Chunks), COLOURED, 80, 24));
}

#[test]
fn details_and_help_are_as_kept() {
    let view = story(20.0);
    for (name, screen, keys) in [
        ("detail-call", Screen::Overview, "jjj<enter>"),
        ("detail-program", Screen::Overview, "j<enter>"),
        ("detail-worker", Screen::Workers, "jjjj<enter>"),
        ("detail-node", Screen::Nodes, "jj<enter>"),
        ("detail-failure", Screen::Failures, "jj<enter>"),
        ("help", Screen::Overview, "?"),
        ("failed-calls", Screen::Calls, "f"),
        ("filter", Screen::Tree, "/node-b"),
    ] {
        let mut ui = Ui::new(screen);
        type_in(&mut ui, &view, keys);
        check(name, &shown(&view, &ui, PLAIN, 80, 24));
    }
}

/// `f` hid their programs and left them.
#[test]
fn what_is_wrong_with_what_is_hidden_is_hidden_and_counted() {
    let view = story(20.0);
    let mut ui = Ui::new(Screen::Overview);
    assert!(shown(&view, &ui, PLAIN, 80, 24).contains(" !! forecast"));
    type_in(&mut ui, &view, "f");
    let text = shown(&view, &ui, PLAIN, 80, 24);
    assert!(!text.contains(" !! forecast") && text.contains(" !  bootstrap"), "{text}");
    assert!(text.contains("    2 more to know of, of programs that are not listed"), "{text}");
    check("overview-failed", &text);
    type_in(&mut ui, &view, "f/no such thing<enter>");
    let text = shown(&view, &ui, PLAIN, 80, 24);
    assert!(
        text.contains("    3 more to know of, of programs that are not listed")
            && text.contains("nothing of that kind"),
        "{text}"
    );
}

/// At 80 columns neither was shown, and deaths nowhere.
#[test]
fn machines_have_their_names_and_the_deaths_of_their_workers() {
    let say = |event: &str, fields: &str, seq: u64| {
        format!(
            r#"{{"timestamp":"2026-01-01T12:00:00Z","level":"INFO","target":"distfun::event","message":"","otel.event.name":"distfun.node.{event}","distfun.manager.id":1,"distfun.node.id":1,"distfun.machine":"10.0.0.11:2718",{fields},"distfun.boot_id":"b","distfun.seq":{seq}}}"#
        )
    };
    let mut view = View::new(Limits::default());
    let connected = say("connected", r#""distfun.node.name":"oak","distfun.workers.total":16"#, 0);
    let died = say("worker_died", r#""distfun.job.id":1,"distfun.chunk.index":0,"error.type":"worker_lost""#, 1);
    for line in [connected, died] {
        view.apply(&serde_json::from_str::<Line<'_>>(&line).unwrap());
    }
    let mut ui = Ui::new(Screen::Nodes);
    type_in(&mut ui, &view, "f<enter>");
    let text = shown(&view, &ui, PLAIN, 80, 24);
    let [heading, row] = [1, 2].map(|at| text.lines().nth(at).unwrap().split_whitespace().collect::<Vec<_>>());
    let column = |name: &str| row[heading.iter().position(|it| *it == name).unwrap_or_else(|| panic!("{text}")) + 1];
    assert_eq!((column("name"), column("runs"), column("died")), ("oak", "0/16", "1"), "{text}");
    assert!(text.contains(" workers died 1 time\n"), "{text}");
}

/// Of a log of hours that had ended there were the last 20 s to see, or nothing.
#[test]
fn of_a_log_that_has_ended_all_chunks_are_in_sight_until_the_user_moves() {
    let line = |seconds: f64, seq: u64| {
        format!(
            r#"{{"timestamp":"{}","level":"DEBUG","target":"distfun::event","message":"","otel.event.name":"distfun.chunk.finished","distfun.manager.id":1,"distfun.job.id":1,"distfun.function.name":"f::g","distfun.chunk.index":{seq},"distfun.chunk.items":1,"distfun.worker.id":0,"distfun.worker.generation":0,"distfun.compute_s":0.1,"distfun.outcome":"failure","distfun.boot_id":"b","distfun.seq":{seq}}}"#,
            demo::BEGIN.after(seconds)
        )
    };
    for length in [0.4, 3.0, 600.0, 10_800.0, 1e6] {
        let mut view = View::new(Limits::default());
        for (seconds, seq) in [(0.1, 0), (length, 1)] {
            view.apply(&serde_json::from_str::<Line<'_>>(&line(seconds, seq)).unwrap());
        }
        let failed = |ui: &Ui, going| {
            let text = draw::text(&draw::buffer(&Seen { going, ..seen(&view, view.now()) }, ui, PLAIN, 80, 24));
            text.lines().find(|line| line.contains("worker 0")).unwrap().matches('✕').count()
        };
        let mut ui = Ui::new(Screen::Chunks);
        assert_eq!(failed(&ui, Going::Over), 2, "{length}");
        let column = ui.column_s();
        type_in(&mut ui, &view, "-");
        assert!(ui.column_s() > column || length > 1e5, "from what fits on");
        type_in(&mut ui, &view, "++++");
        assert_eq!(failed(&ui, Going::Over), if length < 1.0 { 2 } else { 1 }, "{length}");
        // What goes on is shown as before.
        let ui = Ui::new(Screen::Chunks);
        failed(&ui, Going::Live);
        assert_eq!(ui.column_s(), 0.5);
    }
}

/// They were on every screen, and nothing said what they mean.
#[test]
fn help_says_what_each_mark_means() {
    let view = story(20.0);
    let mut ui = Ui::new(Screen::Overview);
    type_in(&mut ui, &view, "?");
    for look in [PLAIN, ASCII] {
        let text = shown(&view, &ui, look, 80, 24);
        let (_, marks) = text.split_once("  marks  ").unwrap_or_else(|| panic!("{text}"));
        for mark in [Mark::Runs, Mark::Idle, Mark::Changes, Mark::Lost, Mark::Done, Mark::Attention] {
            let (sign, _) = look.mark(mark);
            assert!(marks.contains(&format!(" {sign} ")), "{sign} in {text}");
        }
        assert!(text.contains("any key closes this"), "{text}");
    }
}

/// What there was no room for could not be seen at all.
#[test]
fn details_scroll_as_far_as_they_go_and_no_further() {
    let view = story(20.0);
    let mut ui = Ui::new(Screen::Overview);
    let mut shown = |keys: &str| {
        type_in(&mut ui, &view, keys);
        let text = shown(&view, &ui, PLAIN, 80, 24);
        let place = text.lines().find(|line| line.contains("page down")).unwrap_or_default().trim().to_owned();
        (place, text)
    };
    let (place, beginning) = shown("j<enter>");
    assert_eq!(place, "… 1-9 of 24 lines: page up, page down");
    assert!(!beginning.contains("manager 1 runs"), "{beginning}");
    assert_eq!(shown("<down>").0, "… 9-17 of 24 lines: page up, page down");
    let (place, end) = shown("<down><down><down>");
    assert_eq!(place, "… 16-24 of 24 lines: page up, page down");
    check("detail-scrolled", &end);
    // One step back is one, however often there was nothing more.
    assert_eq!(shown("<up>").0, "… 8-16 of 24 lines: page up, page down");
    // Of something else it is the beginning again, and of this too.
    shown("<down>jk");
    assert_eq!(shown("").1, beginning);
    shown("<down><esc>");
    assert_eq!(shown("<enter>").1, beginning);
}

/// `12.3k/99.9k` was cut to `12.3k/99…`, however wide the screen was.
#[test]
fn what_is_done_is_shown_in_full() {
    let line = r#"{"timestamp":"2026-01-01T12:00:00Z","level":"INFO","target":"distfun::event","message":"","otel.event.name":"distfun.job.progress","distfun.manager.id":1,"distfun.job.id":1,"distfun.function.name":"a_function::of_a_long_name","distfun.items.total":99900,"distfun.items.done":12345,"distfun.boot_id":"b","distfun.seq":0}"#;
    let mut view = View::new(Limits::default());
    view.apply(&serde_json::from_str::<Line<'_>>(line).unwrap());
    for (screen, width) in [(Screen::Overview, 80), (Screen::Overview, 120), (Screen::Calls, 120)] {
        let text = shown(&view, &Ui::new(screen), PLAIN, width, 24);
        assert!(text.contains(" 12.3k/99.9k "), "{text}");
    }
}

#[test]
fn nothing_of_a_log_reaches_the_terminal_as_a_command() {
    let line = r#"{"timestamp":"2026-01-01T12:00:00Z","level":"INFO","target":"x","message":"a\u001b[2Jb\r\nc\u0007","distfun.boot_id":"b","distfun.seq":0}"#;
    let mut view = View::new(Limits::default());
    view.apply(&serde_json::from_str::<Line<'_>>(line).unwrap());
    let text = shown(&view, &Ui::new(Screen::Overview), PLAIN, 80, 24);
    assert!(text.contains("a[2Jb c"), "{text}");
    assert!(!text.contains(['\u{1b}', '\r', '\u{7}']), "{text}");
}

#[test]
fn keys_turn_to_screens_and_back() {
    let view = story(20.0);
    let mut ui = Ui::new(Screen::Overview);
    for (keys, screen) in [
        ("3", Screen::Workers),
        ("<tab>", Screen::Nodes),
        ("<backtab><backtab>", Screen::Tree),
        ("8<tab>", Screen::Overview),
        ("<backtab>", Screen::Data),
    ] {
        type_in(&mut ui, &view, keys);
        assert_eq!(ui.screen, screen, "{keys}");
    }
    assert_eq!(type_in(&mut ui, &view, "p"), Act::Freeze);
    assert_eq!(type_in(&mut ui, &view, " "), Act::Freeze);
    assert_eq!(type_in(&mut ui, &view, "<"), Act::Speed { up: false });
    assert_eq!(type_in(&mut ui, &view, "q"), Act::Quit);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    ui.is_typing = true;
    assert_eq!(press(&mut ui, &seen(&view, view.now()), control_c), Act::Quit);
}

#[test]
fn a_selection_keeps_to_its_thing() {
    let view = story(20.0);
    let mut ui = Ui::new(Screen::Workers);
    type_in(&mut ui, &view, "jjj");
    let third = ui.pane().selected.clone().unwrap();
    assert!(matches!(third, Key::Place(..)));
    // Another order, and the same worker.
    type_in(&mut ui, &view, "ssS");
    assert_eq!(ui.pane().selected.as_ref(), Some(&third));
    type_in(&mut ui, &view, "G");
    let last = ui.pane().selected.clone();
    type_in(&mut ui, &view, "gG");
    assert_eq!(ui.pane().selected, last);
    // Each screen has its own.
    type_in(&mut ui, &view, "4");
    assert_eq!(ui.pane().selected, None);
}

#[test]
fn enter_opens_what_is_selected_and_escape_goes_back_step_by_step() {
    let view = story(20.0);
    let mut ui = Ui::new(Screen::Overview);
    type_in(&mut ui, &view, "jj<enter>");
    assert_eq!(ui.screen, Screen::Calls);
    assert!(ui.pane().has_detail && matches!(ui.pane().selected, Some(Key::Job(..))));
    type_in(&mut ui, &view, "f/fit<enter>s<esc>");
    assert!(!ui.pane().has_detail && ui.pane().filter == "fit");
    type_in(&mut ui, &view, "<esc>");
    assert!(ui.pane().filter.is_empty() && ui.pane().failed_only);
    type_in(&mut ui, &view, "<esc>");
    assert!(!ui.pane().failed_only && ui.pane().sort.is_some());
    type_in(&mut ui, &view, "<esc><esc>");
    assert!(ui.pane().sort.is_none() && ui.pane().selected.is_none());
}

#[test]
fn what_is_typed_into_a_filter_is_no_command() {
    let view = story(20.0);
    let mut ui = Ui::new(Screen::Nodes);
    assert_eq!(type_in(&mut ui, &view, "/q3"), Act::None);
    assert_eq!((ui.screen, ui.pane().filter.as_str()), (Screen::Nodes, "q3"));
    type_in(&mut ui, &view, "<esc>");
    assert!(ui.pane().filter.is_empty() && !ui.is_typing);
}

#[test]
fn the_tree_folds_and_the_stream_moves_and_zooms() {
    let view = story(20.0);
    let mut ui = Ui::new(Screen::Tree);
    let rows = |ui: &Ui| super::screens::keys(&seen(&view, view.now()), ui).len();
    let all = rows(&ui);
    type_in(&mut ui, &view, "j<left>");
    assert_eq!(rows(&ui), 4, "itself, and the other program, its manager and node are left");
    type_in(&mut ui, &view, "<right>");
    assert_eq!(rows(&ui), all);
    type_in(&mut ui, &view, "6");
    let column = ui.column_s();
    type_in(&mut ui, &view, "+<left><left>");
    assert!(ui.column_s() < column && ui.edge < Some(view.now()));
    type_in(&mut ui, &view, "<right><right><right>");
    assert_eq!(ui.edge, None);
}

#[test]
fn the_dead_leave_lists_after_a_minute_but_no_count() {
    let mut view = View::new(Limits::default());
    for (_, text) in demo::lines(0) {
        view.apply(&serde_json::from_str(&text).unwrap());
    }
    let rows = |seconds| {
        let seen = seen(&view, view.now().after(seconds));
        [Screen::Workers, Screen::Nodes, Screen::Tree, Screen::Calls]
            .map(|screen| super::screens::keys(&seen, &Ui::new(screen)).len())
    };
    assert_eq!(rows(0.0), [4, 3, 6, 4]);
    assert_eq!(rows(61.0), [0, 0, 0, 4]);
}

#[test]
fn a_replay_goes_by_the_clock_stands_still_and_goes_on() {
    let begin = Instant::now();
    let after = |seconds| begin + Duration::from_secs_f64(seconds);
    let slice = Duration::from_millis(30);
    let view = View::new(Limits::default());
    let feed = Feed::Demo(Demo::default());
    let mut player = Player::new(feed, view, Some(Moment::After(10.0)), Some(2.0), || demo::BEGIN, begin);
    let time = |player: &Player| player.seen().now.since(demo::BEGIN).as_secs_f64();
    player.advance(begin, slice, false).unwrap();
    assert!((9.5..=10.0).contains(&time(&player)));
    assert_eq!(player.seen().going, Going::Frozen { is_live: false });
    player.advance(after(5.0), slice, false).unwrap();
    assert!((9.5..=10.0).contains(&time(&player)));
    let stood = time(&player);
    player.freeze(after(5.0));
    player.advance(after(8.0), slice, false).unwrap();
    assert!((time(&player) - stood - 6.0).abs() < 1e-6);
    player.change_speed(true);
    assert_eq!(player.seen().going, Going::Replay(4.0));
    player.freeze(after(8.0));
    player.advance(after(9.0), slice, false).unwrap();
    assert!((time(&player) - stood - 6.0).abs() < 0.5);
}

/// The clock began at the last line of the log, so that a program that was killed an hour ago was shown as if it were alive.
#[test]
fn a_program_that_was_killed_an_hour_ago_is_silent_from_the_first_screen_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let lines = demo::lines(0);
    // It computes, and is killed then.
    let until = demo::BEGIN.after(20.0);
    let told: Vec<_> = lines.iter().filter(|(time, _)| *time <= until).map(|(_, line)| line.as_str()).collect();
    fs::write(&path, told.join("\n") + "\n").unwrap();
    let begin = Instant::now();
    let now_is = || demo::BEGIN.after(20.0 + 3600.0);
    let player = |begins, speed| {
        let logs = Logs::open(std::slice::from_ref(&path), true).unwrap();
        let mut player = Player::new(Feed::Logs(logs), View::new(Limits::default()), begins, speed, now_is, begin);
        while player.advance(begin, Duration::from_secs(1), true).unwrap() {}
        player
    };
    let live = player(None, None);
    let seen = live.seen();
    assert_eq!((seen.now, seen.going), (now_is(), Going::Live));
    let concerns = seen.view.concerns(seen.now);
    assert!(concerns.iter().any(|concern| concern.text.contains("nothing heard for 3600 s")), "{concerns:?}");
    // Nobody knows what its workers do, and none of them has computed for an hour.
    let of = |screen| draw::text(&draw::buffer(&seen, &Ui::new(screen), PLAIN, 120, 30));
    let workers = of(Screen::Workers);
    assert!(workers.contains(" unknown ") && !workers.contains(" busy  "), "{workers}");
    assert!(of(Screen::Nodes).contains(" unknown "));
    let chunks = of(Screen::Chunks);
    assert!(chunks.contains("12:00:16") && chunks.contains("ddd†"), "it ends where its log does: {chunks}");
    // What is replayed keeps its own time.
    let replayed = player(None, Some(1e6));
    assert!(replayed.seen().now <= until.after(1.0));
}

/// How long the user waits at most, and how much memory it takes, while a log of `LINES` lines (a million, if not said)
/// is read: `LINES=10000000 cargo test --release -p distfun-cli -- --ignored --nocapture a_huge_log`.
#[test]
#[ignore = "writes a log of gigabytes"]
fn a_huge_log_is_read_without_making_the_user_wait() {
    use ratatui::{Terminal, backend::TestBackend};

    let lines: u64 = env::var("LINES").map_or(1_000_000, |lines| lines.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    write_chunks(&path, lines).unwrap();
    println!("{lines} lines, {} MB", fs::metadata(&path).unwrap().len() / 1_000_000);
    let begin = Instant::now();
    let logs = Logs::open(&[path], true).unwrap();
    let mut player = Player::new(Feed::Logs(logs), View::new(Limits::default()), None, None, wall_clock, begin);
    let mut terminal = Terminal::new(TestBackend::new(200, 60)).unwrap();
    let (mut frames, mut draws) = (Vec::new(), Vec::new());
    let mut ui = Ui::new(Screen::Overview);
    loop {
        let frame = Instant::now();
        let has_more = player.advance(frame, Duration::from_millis(30), false).unwrap();
        let drawn = Instant::now();
        terminal.draw(|frame| draw::draw(&player.seen(), &ui, COLOURED, frame.buffer_mut())).unwrap();
        draws.push(drawn.elapsed());
        frames.push(frame.elapsed());
        if frames.len() % 10 == 0 {
            ui.turn(true);
        }
        if !has_more {
            break;
        }
    }
    let took = begin.elapsed().as_secs_f64();
    assert_eq!(player.seen().view.losses().lines, lines);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("unknown memory");
    frames.sort_unstable();
    let (slowest, slowest_draw) = (frames[frames.len() - 1], draws.iter().max().unwrap());
    println!("read in {took:.1} s, {:.0} lines/s, {} frames", lines as f64 / took, frames.len());
    println!("slowest frame {slowest:.1?}, of it drawing at most {slowest_draw:.1?}; {memory}");
    // Others may have taken the CPU from a few.
    assert!(frames[frames.len() * 98 / 100] < Duration::from_millis(100));
}

fn write_chunks(path: &Path, lines: u64) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::io::BufWriter::with_capacity(1 << 20, fs::File::create(path)?);
    for seq in 0..lines {
        // 16 workers, each of which begins and ends a chunk.
        let (chunk, worker, ends) = (seq / 32 * 16 + seq % 16, seq % 16, seq / 16 % 2 == 1);
        let (event, rest) = if ends {
            ("finished", r#","distfun.outcome":"success","distfun.items.done":1,"distfun.compute_s":0.0004"#)
        } else {
            ("started", "")
        };
        let time = Time(demo::BEGIN.0 + 25 * seq);
        let time = humantime::format_rfc3339_micros(std::time::UNIX_EPOCH + Duration::from_micros(time.0));
        writeln!(
            file,
            r#"{{"timestamp":"{time}","level":"DEBUG","target":"distfun::event","message":"","otel.event.name":"distfun.chunk.{event}","distfun.manager.id":1,"distfun.job.id":{},"distfun.function.name":"f::g","distfun.chunk.index":{chunk},"distfun.chunk.items":1,"distfun.chunk.attempt":1,"distfun.worker.id":{worker},"distfun.sampling_ratio":1.0{rest},"distfun.boot_id":"b","distfun.seq":{seq}}}"#,
            chunk / 1000,
        )?;
    }
    file.flush()
}

fn sizes() -> impl Strategy<Value = (u16, u16)> {
    prop_oneof![(0u16..6, 0u16..6), (1u16..130, 1u16..50), (250u16..301, 90u16..101)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_size_no_time_and_no_key_makes_it_panic(
        (width, height) in sizes(),
        share in 0.0..1.0f64,
        later in 0.0..200.0f64,
        screen in 0usize..8,
        keys in "[1-8jkhlgGfsSp+=?/a-c -]{0,12}",
        enters in any::<bool>(),
        look in prop_oneof![Just(PLAIN), Just(COLOURED), Just(ASCII)],
    ) {
        let lines = demo::lines(0);
        let mut view = View::new(Limits::default());
        for (_, text) in &lines[..(share * lines.len() as f64) as usize] {
            view.apply(&serde_json::from_str(text).unwrap());
        }
        let mut ui = Ui::new(Screen::ALL[screen]);
        type_in(&mut ui, &view, &keys);
        if enters {
            type_in(&mut ui, &view, "<enter>");
        }
        draw::buffer(&seen(&view, view.now().after(later)), &ui, look, width, height);
    }
}
