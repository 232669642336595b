//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    screens::{self, detail},
    seen::Seen,
    ui::{Key, Screen, Ui},
};

/// What a key asks of others than the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing.
    None,
    /// To end.
    Quit,
    /// To stop, or to go on.
    Freeze,
    /// To replay at another speed.
    Speed {
        /// Twice as fast, or half.
        up: bool,
    },
}

pub(crate) fn press(ui: &mut Ui, seen: &Seen<'_>, key: KeyEvent) -> Act {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    if is_control && matches!(key.code, KeyCode::Char('c' | 'C' | 'd')) {
        return Act::Quit;
    }
    if ui.is_typing {
        type_filter(ui, key.code, is_control);
        return Act::None;
    }
    if ui.has_help {
        ui.has_help = false;
        return if key.code == KeyCode::Char('q') { Act::Quit } else { Act::None };
    }
    match key.code {
        KeyCode::Char('q') => return Act::Quit,
        KeyCode::Char('p' | ' ') => return Act::Freeze,
        KeyCode::Char('>') => return Act::Speed { up: true },
        KeyCode::Char('<') => return Act::Speed { up: false },
        KeyCode::Char('?') | KeyCode::F(1) => ui.has_help = true,
        KeyCode::Char(digit @ '1'..='8') => ui.screen = Screen::ALL[digit as usize - '1' as usize],
        KeyCode::Tab => ui.turn(true),
        KeyCode::BackTab => ui.turn(false),
        KeyCode::Char('/') => ui.is_typing = true,
        KeyCode::Char('f') => ui.pane_mut().failed_only ^= true,
        KeyCode::Char('s') => sort(ui, seen),
        KeyCode::Char('S') => ui.pane_mut().is_reversed ^= true,
        KeyCode::Char('+' | '=') => ui.zoom(true),
        KeyCode::Char('-') => ui.zoom(false),
        KeyCode::Down | KeyCode::Char('j') => go(ui, seen, |at, _| at + 1),
        KeyCode::Up | KeyCode::Char('k') => go(ui, seen, |at, _| at.saturating_sub(1)),
        KeyCode::PageDown if ui.pane().has_detail => scroll(ui, |at| at + PAGE),
        KeyCode::PageUp if ui.pane().has_detail => scroll(ui, |at| at.saturating_sub(PAGE)),
        KeyCode::PageDown => go(ui, seen, |at, _| at + 10),
        KeyCode::PageUp => go(ui, seen, |at, _| at.saturating_sub(10)),
        KeyCode::Home | KeyCode::Char('g') => go(ui, seen, |_, _| 0),
        KeyCode::End | KeyCode::Char('G') => {
            ui.edge = None;
            go(ui, seen, |_, count| count);
        }
        KeyCode::Left | KeyCode::Char('h') => sideways(ui, seen, false),
        KeyCode::Right | KeyCode::Char('l') => sideways(ui, seen, true),
        KeyCode::Enter => open(ui, seen),
        KeyCode::Esc | KeyCode::Backspace => back(ui),
        _ => {}
    }
    Act::None
}

fn type_filter(ui: &mut Ui, code: KeyCode, is_control: bool) {
    let filter = &mut ui.pane_mut().filter;
    match code {
        KeyCode::Char('u') if is_control => filter.clear(),
        KeyCode::Char(char) if !is_control && filter.len() < 100 => filter.push(char),
        KeyCode::Backspace if filter.is_empty() => ui.is_typing = false,
        KeyCode::Backspace => drop(filter.pop()),
        KeyCode::Enter => ui.is_typing = false,
        KeyCode::Esc => {
            filter.clear();
            ui.is_typing = false;
        }
        _ => {}
    }
}

fn sort(ui: &mut Ui, seen: &Seen<'_>) {
    let Some(table) = screens::table(seen, ui).filter(|table| !table.is_ordered) else { return };
    let pane = ui.pane_mut();
    let next = pane.sort.map_or(0, |column| column + 1);
    pane.sort = (next < table.columns.len()).then_some(next);
}

/// From the selected row to another one of so many.
fn go(ui: &mut Ui, seen: &Seen<'_>, to: impl Fn(usize, usize) -> usize) {
    let keys = screens::keys(seen, ui);
    let pane = ui.pane_mut();
    let Some(last) = keys.len().checked_sub(1) else { return };
    // The first step selects where one is.
    let next = match pane.position(keys.iter()) {
        Some(at) => to(at, keys.len()),
        None => to(0, keys.len()).saturating_sub(1),
    };
    select(ui, &keys, next.min(last));
}

/// Lines of details at once: nearly as many as there is room for on a terminal of 24 lines, where they are below a list.
const PAGE: usize = 8;

fn scroll(ui: &Ui, to: impl Fn(usize) -> usize) {
    let scrolled = &ui.pane().scrolled;
    scrolled.set(to(scrolled.get()));
}

fn select(ui: &mut Ui, keys: &[Key], at: usize) {
    let pane = ui.pane_mut();
    if pane.selected.as_ref() != keys.get(at) {
        pane.scrolled.set(0);
    }
    (pane.selected, pane.index) = (keys.get(at).cloned(), at);
}

fn sideways(ui: &mut Ui, seen: &Seen<'_>, right: bool) {
    match ui.screen {
        Screen::Chunks => {
            let step = 10.0 * ui.column_s();
            let edge = ui.edge.unwrap_or(seen.end());
            let edge = if right { edge.after(step) } else { edge.before(step) };
            let first = seen.view.first().unwrap_or_default();
            ui.edge = (edge < seen.end()).then_some(edge.max(first));
        }
        Screen::Tree => {
            if let Some(key) = ui.pane().selected.clone() {
                if right {
                    ui.folds.insert(key, false);
                } else if matches!(key, Key::Process(_) | Key::Manager(..)) {
                    ui.folds.insert(key, true);
                }
            }
        }
        _ => {}
    }
}

fn open(ui: &mut Ui, seen: &Seen<'_>) {
    let keys = screens::keys(seen, ui);
    let at = ui.pane().position(keys.iter()).unwrap_or(0);
    let Some(key) = keys.get(at).cloned() else { return };
    select(ui, &keys, at);
    if detail::of(seen, &key).is_none() {
        return;
    }
    if ui.screen == Screen::Overview {
        ui.screen = if matches!(key, Key::Job(..)) { Screen::Calls } else { Screen::Tree };
        let all = screens::keys(seen, ui);
        if let Some(at) = all.iter().position(|other| *other == key) {
            select(ui, &all, at);
        } else {
            ui.pane_mut().selected = Some(key);
        }
    }
    let pane = ui.pane_mut();
    pane.has_detail = true;
    pane.scrolled.set(0);
}

/// One step: details, filters, order, selection.
fn back(ui: &mut Ui) {
    let pane = ui.pane_mut();
    if pane.has_detail {
        pane.has_detail = false;
    } else if !pane.filter.is_empty() {
        pane.filter.clear();
    } else if pane.failed_only {
        pane.failed_only = false;
    } else if pane.sort.is_some() {
        (pane.sort, pane.is_reversed) = (None, false);
    } else {
        pane.selected = None;
        ui.edge = None;
    }
}
