//! The whole screen: a function of what is seen and what the user has chosen, and of nothing else.

use ratatui::{buffer::Buffer, layout::Rect};

use super::{
    look::{Look, Mark, Tone},
    pen::Pen,
    screens::{self, chunks, detail, overview},
    seen::{Going, Seen},
    ui::{Screen, Ui},
    words,
};

/// From this width on details stand beside what they are of, not below.
const WIDE: usize = 130;

/// From this height on every screen says what is gravely wrong.
const HIGH: usize = 12;

pub(crate) fn draw(seen: &Seen<'_>, ui: &Ui, look: Look, buffer: &mut Buffer) {
    let area = buffer.area;
    let mut pen = Pen::new(buffer, look, area);
    let height = pen.height();
    if height < 3 {
        footer(seen, ui, &mut pen.rows(height.saturating_sub(1), 1));
        return;
    }
    tabs(ui, &mut pen.rows(0, 1));
    body(seen, ui, &mut pen.rows(1, height - 2));
    footer(seen, ui, &mut pen.rows(height - 1, 1));
    if ui.has_help {
        help(&mut pen);
    }
}

/// As text, for a file or a pipe.
pub(crate) fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width).max(1);
    let mut text = String::new();
    for row in buffer.content.chunks(width) {
        let mut line = String::new();
        let mut covered = 0;
        for cell in row {
            // What a wide character covers is no character.
            if covered == 0 {
                line.push_str(cell.symbol());
                covered = words::width(cell.symbol());
            }
            covered = covered.saturating_sub(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn tabs(ui: &Ui, pen: &mut Pen<'_>) {
    let is_wide = pen.width() >= 80;
    let mut x = 0;
    for (number, screen) in (1..).zip(Screen::ALL) {
        let is_here = screen == ui.screen;
        let name = if is_wide || is_here { format!("{number} {}", screen.name()) } else { number.to_string() };
        let (before, after) = if is_here { ("[", "]") } else { (" ", " ") };
        x = pen.put(x, 0, before, Tone::Title);
        x = pen.put(x, 0, &name, if is_here { Tone::Title } else { Tone::Quiet });
        x = pen.put(x, 0, after, Tone::Title);
    }
}

fn body(seen: &Seen<'_>, ui: &Ui, pen: &mut Pen<'_>) {
    let (width, height) = (pen.width(), pen.height());
    let detail = details(seen, ui);
    match detail {
        Some(detail) if width >= WIDE => {
            let left = width * 3 / 5;
            screen(seen, ui, &mut pen.part(0, 0, left, height));
            detail.draw(&mut pen.part(left + 1, 0, width - left - 1, height), &ui.pane().scrolled);
        }
        Some(detail) if height < 8 => detail.draw(pen, &ui.pane().scrolled),
        Some(detail) => {
            let above = height / 2;
            screen(seen, ui, &mut pen.rows(0, above));
            detail.draw(&mut pen.rows(above, height - above), &ui.pane().scrolled);
        }
        None => screen(seen, ui, pen),
    }
}

fn details(seen: &Seen<'_>, ui: &Ui) -> Option<detail::Detail> {
    let pane = ui.pane();
    if !pane.has_detail {
        return None;
    }
    let keys = screens::keys(seen, ui);
    // What is selected though it is not listed any more can still be known.
    let known = pane.selected.as_ref().and_then(|key| detail::of(seen, key));
    known.or_else(|| detail::of(seen, &keys[pane.position(keys.iter())?]))
}

fn screen(seen: &Seen<'_>, ui: &Ui, pen: &mut Pen<'_>) {
    if ui.screen == Screen::Overview {
        return overview::draw(seen, pen, ui.pane());
    }
    let mut top = 0;
    if pen.height() >= HIGH
        && let Some(concern) = seen.view.concerns(seen.now).iter().find(|concern| concern.is_grave)
    {
        top = overview::draw_concern(concern, pen, 0, 1);
    }
    let mut pen = pen.rows(top, pen.height());
    match screens::table(seen, ui) {
        Some(table) => table.draw(&mut pen, ui.pane()),
        None => chunks::draw(seen, &mut pen, ui),
    }
}

fn footer(seen: &Seen<'_>, ui: &Ui, pen: &mut Pen<'_>) {
    let pane = ui.pane();
    if ui.is_typing {
        let x = pen.put(0, 0, &format!(" /{}", pane.filter), Tone::Title);
        let x = pen.put(x, 0, pen.look.pick("▏", "_"), Tone::Title);
        pen.put(x + 1, 0, "enter keeps it, esc clears it", Tone::Quiet);
        return;
    }
    let (sign, word, tone) = match seen.going {
        Going::Live => (pen.look.pick("●", "*"), "live".to_owned(), Tone::Good),
        Going::Over => (pen.look.pick("✓", "+"), "all ended".into(), Tone::Quiet),
        Going::End => ("=", "end of the log".into(), Tone::Quiet),
        Going::Replay(speed) => (pen.look.pick("▶", ">"), replay(speed), Tone::Good),
        Going::Frozen { is_live: true } => ("=", "frozen".into(), Tone::Warn),
        Going::Frozen { is_live: false } => ("=", "stands still".into(), Tone::Warn),
        Going::Seeking => (pen.look.pick("…", "~"), "seeks".into(), Tone::Warn),
        Going::Once => (" ", "at".into(), Tone::Plain),
    };
    let mut x = pen.put(1, 0, sign, tone) + 1;
    x = pen.put(x, 0, &word, tone) + 1;
    x = pen.put(x, 0, &format!("{}Z", words::clock(seen.now)), Tone::Plain) + 2;
    if seen.is_demo {
        x = pen.put(x, 0, "demo", Tone::Warn) + 2;
    }
    let read = match seen.reading {
        Some(share) => format!("reading {}", words::percent(share)),
        None if seen.going == Going::Once || pen.width() < 60 => String::new(),
        None => format!("{} lines/s", words::count(seen.lines_per_s.round() as u64)),
    };
    if !read.is_empty() {
        x = pen.put(x, 0, &read, Tone::Quiet) + 2;
    }
    for (text, tone) in notes(seen, ui) {
        x = pen.put(x, 0, &text, tone) + 2;
    }
    let still = if matches!(seen.going, Going::Frozen { .. }) { "space go on" } else { "p freeze" };
    let hints = ["? help", "q quit", "/ filter", still, "enter more", "s sort", "f failed", "tab next"];
    let mut room = pen.width().saturating_sub(x + 1);
    let fits = |hint: &&&str| {
        let fits = room >= hint.len() + 2;
        room -= if fits { hint.len() + 2 } else { 0 };
        fits
    };
    let shown: Vec<_> = hints.iter().filter(fits).copied().collect();
    let hints = shown.join("  ");
    if seen.going != Going::Once {
        pen.put(pen.width().saturating_sub(hints.len() + 1), 0, &hints, Tone::Quiet);
    }
}

fn replay(speed: f64) -> String {
    if speed == 1.0 { "replay".into() } else { format!("replay x{speed}") }
}

/// What is not as usual: lines that are lost, things that were left out, rows that are not shown.
fn notes(seen: &Seen<'_>, ui: &Ui) -> Vec<(String, Tone)> {
    let losses = seen.view.losses();
    let mut notes = Vec::new();
    let lost = losses.missing + losses.dropped;
    if lost > 0 {
        notes.push((format!("lost {}", words::count(lost)), Tone::Bad));
    }
    if losses.unreadable > 0 {
        notes.push((format!("unreadable {}", words::count(losses.unreadable)), Tone::Bad));
    }
    if losses.cut > 0 {
        notes.push((format!("cut {}", words::count(losses.cut)), Tone::Warn));
    }
    if losses.spans_cut > 0 && ui.screen == Screen::Chunks {
        notes.push((format!("older chunks cut {}", words::count(losses.spans_cut)), Tone::Quiet));
    }
    let pane = ui.pane();
    if !pane.filter.is_empty() {
        notes.push((format!("/{}", pane.filter), Tone::Title));
    }
    if pane.failed_only {
        notes.push(("failed only".into(), Tone::Title));
    }
    if let (Some(column), Some(table)) = (pane.sort, screens::table(seen, ui))
        && !table.is_ordered
        && let Some(column) = table.columns.get(column)
    {
        let name = if column.name.is_empty() { "share" } else { column.name };
        notes.push((format!("by {name}"), Tone::Title));
    }
    notes
}

pub(crate) const KEYS: [(&str, &str); 16] = [
    ("1 to 8, tab", "the screens"),
    ("arrows, hjkl", "move; home, end too"),
    ("page up, down", "move ten rows, or details that are open"),
    ("enter, esc", "all about what is selected, and back"),
    ("/", "show only what has this text"),
    ("f", "show only what has failed"),
    ("s, S", "sort by the next column; the other way round"),
    ("p, space", "stop, and go on"),
    ("< >", "replay slower, faster"),
    ("+ -", "chunks: closer, further"),
    ("left, right", "chunks: earlier, later; tree: fold, unfold"),
    ("q, Ctrl-C", "quit"),
    ("", ""),
    ("failed", "for good; retries and restarts are what supervision"),
    ("", "did about what was not. idle, busy, use: shares of the"),
    ("", "workers' time. A - is something the log does not tell."),
];

/// What marks say, of whatever they stand beside.
const MARKS: [&[(Mark, &str)]; 2] = [
    &[(Mark::Runs, "at work, or there"), (Mark::Idle, "idle"), (Mark::Changes, "restarts, silent, stopping")],
    &[(Mark::Done, "ended"), (Mark::Lost, "failed, lost, given up"), (Mark::Attention, "needs a look")],
];

fn help(pen: &mut Pen<'_>) {
    let width = 74.min(pen.width());
    let height = (KEYS.len() + MARKS.len() + 3).min(pen.height());
    let (x, y) = ((pen.width() - width) / 2, (pen.height() - height) / 2);
    let mut pen = pen.part(x, y, width, height);
    pen.clear();
    pen.rule(0, "keys");
    for (y, (keys, meaning)) in (1..).zip(KEYS) {
        pen.put(2, y, keys, Tone::Title);
        pen.put_cut(16, y, meaning, Tone::Plain);
    }
    let below = KEYS.len() + 2;
    pen.put(2, below, "marks", Tone::Title);
    for (y, marks) in (below..).zip(MARKS) {
        let mut x = 16;
        for &(mark, meaning) in marks {
            x = pen.mark(x, y, mark) + 1;
            x = pen.put_cut(x, y, meaning, Tone::Plain) + 2;
        }
    }
    if height > 2 {
        pen.rule(height - 1, "any key closes this");
    }
}

/// A buffer of this size with the screen on it.
pub(crate) fn buffer(seen: &Seen<'_>, ui: &Ui, look: Look, width: u16, height: u16) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    draw(seen, ui, look, &mut buffer);
    buffer
}
