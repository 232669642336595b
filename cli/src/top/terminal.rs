//! The terminal: takes it, draws, reads keys, and gives it back whatever happens.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal,
    crossterm::{
        self,
        event::{self, Event, KeyEventKind},
    },
};

use super::{
    draw,
    look::Look,
    play::Player,
    press::{Act, press},
    ui::Ui,
};

/// What is read between two looks at keys.
const SLICE: Duration = Duration::from_millis(30);

/// Between two pictures, at least.
const FRAME: Duration = Duration::from_millis(100);

/// And at most, as time goes on.
const IDLE_FRAME: Duration = Duration::from_millis(500);

pub(crate) fn size() -> Option<(u16, u16)> {
    crossterm::terminal::size().ok().filter(|(width, height)| *width > 0 && *height > 0)
}

/// Until the user quits.
///
/// # Errors
/// In words: a log can't be read any more, or the terminal is gone. It is restored before.
pub(crate) fn run(mut player: Player, mut ui: Ui, look: Look, starts: bool) -> Result<(), String> {
    let ends = signals().map_err(|error| format!("signals can't be caught: {error}"))?;
    // Restores the terminal in a panic too.
    let mut terminal = ratatui::try_init().map_err(|error| format!("the terminal can't be used: {error}"))?;
    let result = watch(&mut terminal, &mut player, &mut ui, look, starts, &ends);
    let restored = ratatui::try_restore().map_err(|error| format!("the terminal can't be restored: {error}"));
    result.and(restored)
}

fn watch(
    terminal: &mut DefaultTerminal,
    player: &mut Player,
    ui: &mut Ui,
    look: Look,
    starts: bool,
    ends: &AtomicBool,
) -> Result<(), String> {
    let failed = |error: io::Error| format!("the terminal can't be used any more: {error}");
    let mut drawn: Option<Instant> = None;
    let mut is_changed = true;
    let mut lines = 0;
    while !ends.load(Ordering::Relaxed) {
        let has_more = player.advance(Instant::now(), SLICE, starts)?;
        is_changed |= player.lines() != lines;
        lines = player.lines();
        let age = drawn.map_or(IDLE_FRAME, |drawn| drawn.elapsed());
        if age >= IDLE_FRAME || (is_changed && age >= FRAME) {
            let seen = player.seen();
            terminal.draw(|frame| draw::draw(&seen, ui, look, frame.buffer_mut())).map_err(failed)?;
            (drawn, is_changed) = (Some(Instant::now()), false);
        }
        let age = drawn.map_or(Duration::ZERO, |drawn| drawn.elapsed());
        let mut wait = match (has_more, is_changed) {
            (true, _) => Duration::ZERO,
            (false, true) => FRAME.saturating_sub(age),
            // Files are looked at as often.
            (false, false) => FRAME,
        };
        while event::poll(wait).map_err(failed)? {
            match event::read().map_err(failed)? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match press(ui, &player.seen(), key) {
                    Act::Quit => return Ok(()),
                    Act::Freeze => player.freeze(Instant::now()),
                    Act::Speed { up } => player.change_speed(up),
                    Act::None => {}
                },
                Event::Resize(..) => {}
                _ => continue,
            }
            // Whoever has pressed a key waits for what it does.
            (drawn, wait) = (None, Duration::ZERO);
        }
    }
    Ok(())
}

/// Set when the process is asked to end.
fn signals() -> io::Result<Arc<AtomicBool>> {
    let ends = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
        let flag = Arc::clone(&ends);
        std::thread::Builder::new().name("distfun-signals".into()).spawn(move || {
            let Some(signal) = signals.forever().next() else { return };
            flag.store(true, Ordering::Relaxed);
            // Whoever waits for keys of a terminal that is gone waits for ever; a file may take long too.
            if signal != SIGHUP {
                std::thread::sleep(Duration::from_secs(2));
            }
            let _ = ratatui::try_restore();
            std::process::exit(128 + signal);
        })?;
    }
    Ok(ends)
}
