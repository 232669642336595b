//! Numbers and names as short words.

use distfun_core::view::Time;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// At most 6 characters: `240ms`, `3.2s`, `1m05s`, `2h07m`, `3d04h`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match seconds {
        _ if seconds.is_nan() => "?".into(),
        ..0.000_000_5 => "0s".into(),
        ..0.000_999_5 => format!("{:.0}us", seconds * 1e6),
        ..0.009_95 => format!("{:.1}ms", seconds * 1e3),
        ..0.999_5 => format!("{:.0}ms", seconds * 1e3),
        ..59.95 => format!("{seconds:.1}s"),
        ..3600.0 => format!("{}m{:02}s", whole / 60, whole % 60),
        ..86_400.0 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        ..8_640_000.0 => format!("{}d{:02}h", whole / 86_400, whole / 3600 % 24),
        _ => format!("{}d", whole / 86_400),
    }
}

/// In whole seconds at the finest, as what is guessed or long.
pub(crate) fn rough(seconds: f64) -> String {
    if seconds < 59.95 { format!("{}s", seconds.max(0.0) as u64) } else { duration(seconds) }
}

/// For what people watch grow: no jump between milliseconds and microseconds, tenths of seconds at the finest.
pub(crate) fn elapsed(seconds: f64) -> String {
    if seconds < 59.95 { format!("{:.1}s", seconds.max(0.0)) } else { duration(seconds) }
}

/// At most 5 characters: `9999`, `12.3k`, `4.5M`.
pub(crate) fn count(count: u64) -> String {
    scaled(count as f64, "", |scaled| scaled < 10_000.0)
}

/// `1 key`, `3 keys`.
pub(crate) fn many(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `4 slots`, `2 slots and 1 GPU`.
pub(crate) fn slots(slots: u64, gpus: u64) -> String {
    let slots = many(slots, "slot");
    if gpus == 0 { slots } else { format!("{slots} and {}", many(gpus, "GPU")) }
}

/// `41/s`, `0.5/s`, `1.2k/s`.
pub(crate) fn rate(per_s: f64) -> String {
    match per_s {
        ..0.0 => "?".into(),
        ..0.095 => format!("{per_s:.2}/s"),
        ..9.95 => format!("{per_s:.1}/s"),
        _ => scaled(per_s.round(), "/s", |scaled| scaled < 10_000.0),
    }
}

/// `812 B`, `4.5 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut scaled = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if scaled < 999.5 {
            let digits = usize::from(unit != "B" && scaled < 99.95);
            return format!("{scaled:.digits$} {unit}");
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.0} PiB")
}

fn scaled(number: f64, unit: &str, is_short: impl Fn(f64) -> bool) -> String {
    if is_short(number) {
        return format!("{number:.0}{unit}");
    }
    let mut scaled = number;
    for prefix in ["k", "M", "G", "T"] {
        scaled /= 1000.0;
        if scaled < 99.95 {
            return format!("{scaled:.1}{prefix}{unit}");
        }
        if scaled < 999.5 {
            return format!("{scaled:.0}{prefix}{unit}");
        }
    }
    format!("{scaled:.0}T{unit}")
}

/// `83%`; never `100%` before all is done.
pub(crate) fn percent(share: f64) -> String {
    let share = share.clamp(0.0, 1.0);
    let percent = (share * 100.0).round();
    format!("{:.0}%", if share < 1.0 { percent.min(99.0) } else { percent })
}

/// The time of day, UTC.
pub(crate) fn clock(time: Time) -> String {
    time.to_string().get(11..19).unwrap_or("?").to_owned()
}

/// The last parts of a path of Rust.
pub(crate) fn function(name: &str) -> &str {
    name.rmatch_indices("::").nth(1).map_or(name, |(at, _)| &name[at + 2..])
}

/// As much of the end of a function's path as there is room for, whole parts if one of them fits.
pub(crate) fn function_in(path: &str, width: usize, ellipsis: &str) -> String {
    let last = path.rsplit("::").next().unwrap_or(path);
    let fits = path.width() <= width || last.width() > width;
    tail(if fits { path } else { last }, width, ellipsis)
}

/// On one line, whatever was in it.
pub(crate) fn line(text: &str) -> String {
    let clean = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // Neither may what is said change the direction of what stands beside it.
    let turns = |char| matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    clean.chars().filter(|char| !char.is_control() && !turns(*char)).collect()
}

pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Its beginning, if it is too long for `width`.
pub(crate) fn head(text: &str, width: usize, ellipsis: &str) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let head: String = fitting(text.chars(), width, ellipsis).collect();
    if width == 0 { String::new() } else { head.trim_end().to_owned() + ellipsis }
}

/// Its end, if it is too long for `width`.
pub(crate) fn tail(text: &str, width: usize, ellipsis: &str) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let tail: Vec<char> = fitting(text.chars().rev(), width, ellipsis).collect();
    if width == 0 { String::new() } else { ellipsis.to_owned() + &tail.into_iter().rev().collect::<String>() }
}

/// As many of them as there is room for beside the ellipsis.
fn fitting(chars: impl Iterator<Item = char>, width: usize, ellipsis: &str) -> impl Iterator<Item = char> {
    let room = width.saturating_sub(ellipsis.width());
    let mut used = 0;
    chars.take_while(move |char| {
        used += char.width().unwrap_or(0);
        used <= room
    })
}

/// In lines of at most `width`, cut between words where that can be.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for mut word in text.split_whitespace() {
        loop {
            let line = lines.last_mut().expect("there is one from the beginning");
            let gap = usize::from(!line.is_empty());
            if line.width() + gap + word.width() <= width || width == 0 {
                line.extend((gap == 1).then_some(' '));
                line.push_str(word);
                break;
            }
            if word.width() <= width {
                lines.push(word.to_owned());
                break;
            }
            if gap == 1 {
                lines.push(String::new());
                continue;
            }
            let mut used = 0;
            let end = word.char_indices().find(|(_, char)| {
                used += char.width().unwrap_or(0);
                used > width
            });
            // A character that is wider than the line stands on it all the same.
            let end = end.map_or(word.len(), |(at, char)| if at == 0 { char.len_utf8() } else { at });
            line.push_str(&word[..end]);
            word = &word[end..];
            lines.push(String::new());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = [0.0, 0.000_04, 0.0031, 0.24, 0.9996, 3.21, 59.97, 65.0, 7650.0, 273_600.0, 1e9].map(duration);
        assert_eq!(
            shown,
            ["0s", "40us", "3.1ms", "240ms", "1.0s", "3.2s", "0m59s", "1m05s", "2h07m", "3d04h", "11574d"]
        );
        assert_eq!([0.0, 0.25, 75.0].map(elapsed), ["0.0s", "0.2s", "1m15s"]);
    }

    #[test]
    fn counts_rates_and_sizes_are_short() {
        assert_eq!([0, 9999, 12_345, 123_456, 4_500_000].map(count), ["0", "9999", "12.3k", "123k", "4.5M"]);
        assert_eq!([0.02, 0.5, 41.0, 12_345.0].map(rate), ["0.02/s", "0.5/s", "41/s", "12.3k/s"]);
        assert_eq!([812, 1000, 4_718_592].map(bytes), ["812 B", "1.0 KiB", "4.5 MiB"]);
        assert_eq!([0.0, 0.004, 0.5, 0.9999, 1.0].map(percent), ["0%", "0%", "50%", "99%", "100%"]);
    }

    #[test]
    fn texts_are_cut_to_their_width() {
        assert_eq!(function("a::b::c::d"), "c::d");
        assert_eq!(function("b::c"), "b::c");
        assert_eq!((head("some words", 6, "…"), tail("some words", 6, "…")), ("some…".into(), "…words".into()));
        assert_eq!((head("日本語", 5, "…"), head("日本語", 0, "…")), ("日本…".into(), String::new()));
        assert_eq!(wrap("one two three abcdefgh", 7), ["one two", "three", "abcdefg", "h"]);
        assert_eq!(wrap("日本", 1), ["日", "本", ""]);
    }
}
