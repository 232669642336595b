//! How things are drawn here: with which colours and characters.

use std::env;

use ratatui::style::{Color, Modifier, Style};

/// Colours and characters of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) has_colours: bool,
    /// Bold and reversed.
    pub(crate) has_attributes: bool,
    pub(crate) is_unicode: bool,
}

/// What a text, a mark or a bar says by its colour, always beside something that says the same without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    #[default]
    Plain,
    /// Of less interest.
    Quiet,
    /// What titles are.
    Title,
    /// It computes, it is there, it went well.
    Good,
    /// Supervision deals with it.
    Warn,
    /// It failed or is lost.
    Bad,
}

/// States, as one character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Runs,
    Idle,
    Changes,
    Lost,
    Done,
    Attention,
}

impl Look {
    /// What the terminal and the user want.
    pub(crate) fn here() -> Self {
        let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { has_colours: !is_dumb && !no_colour, has_attributes: !is_dumb, is_unicode: is_utf8() }
    }

    /// For a file or a pipe.
    pub(crate) fn plain(self) -> Self {
        Self { has_colours: false, has_attributes: false, ..self }
    }

    pub(crate) fn style(self, tone: Tone) -> Style {
        let style = Style::new();
        let colour = |colour| if self.has_colours { style.fg(colour) } else { style };
        let with = |style: Style, modifier| if self.has_attributes { style.add_modifier(modifier) } else { style };
        match tone {
            Tone::Plain => style,
            Tone::Quiet => with(style, Modifier::DIM),
            Tone::Title => with(colour(Color::Cyan), Modifier::BOLD),
            Tone::Good => colour(Color::Green),
            Tone::Warn => colour(Color::Yellow),
            Tone::Bad => with(colour(Color::Red), Modifier::BOLD),
        }
    }

    /// Of what is selected.
    pub(crate) fn selected(self) -> Style {
        if !self.has_attributes {
            return Style::new();
        }
        // In one colour: others would be backgrounds here.
        let style = Style::new().remove_modifier(Modifier::all()).add_modifier(Modifier::REVERSED);
        if self.has_colours { style.fg(Color::Reset) } else { style }
    }

    pub(crate) fn mark(self, mark: Mark) -> (&'static str, Tone) {
        let (unicode, ascii, tone) = match mark {
            Mark::Runs => ("●", "*", Tone::Good),
            Mark::Idle => ("○", "o", Tone::Quiet),
            Mark::Changes => ("◐", "~", Tone::Warn),
            Mark::Lost => ("✕", "x", Tone::Bad),
            Mark::Done => ("✓", "+", Tone::Quiet),
            Mark::Attention => ("!", "!", Tone::Warn),
        };
        (if self.is_unicode { unicode } else { ascii }, tone)
    }

    pub(crate) fn pick(self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.is_unicode { unicode } else { ascii }
    }

    /// A bar of `width` characters, in two parts: what is done, and the rest.
    pub(crate) fn bar(self, share: f64, width: usize) -> (String, String) {
        let halves = (share.clamp(0.0, 1.0) * 2.0 * width as f64).floor() as usize;
        if !self.is_unicode {
            let done = halves / 2;
            return ("#".repeat(done), "-".repeat(width - done));
        }
        let (whole, half) = (halves / 2, halves % 2);
        ("━".repeat(whole) + if half == 1 { "╸" } else { "" }, "─".repeat(width - whole - half))
    }

    /// How full a cell is: from nothing to all of it, in eight steps.
    pub(crate) fn level(self, share: f64) -> &'static str {
        const BLOCKS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
        const SIGNS: [&str; 8] = [".", ".", ":", ":", "+", "+", "#", "#"];
        let step = ((share.clamp(0.0, 1.0) * 8.0).ceil() as usize).saturating_sub(1).min(7);
        if self.is_unicode { BLOCKS[step] } else { SIGNS[step] }
    }

    /// The colour of the n-th function; brighter while it runs.
    pub(crate) fn function(self, n: usize, runs: bool) -> Style {
        const ENDED: [Color; 5] = [Color::Blue, Color::Green, Color::Magenta, Color::Cyan, Color::Yellow];
        const RUNS: [Color; 5] =
            [Color::LightBlue, Color::LightGreen, Color::LightMagenta, Color::LightCyan, Color::LightYellow];
        if !self.has_colours {
            return Style::new();
        }
        Style::new().fg(if runs { RUNS[n % RUNS.len()] } else { ENDED[n % ENDED.len()] })
    }
}

/// As the locale says: the first of these that is set holds.
fn is_utf8() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(env::var_os).find(|value| !value.is_empty());
    set.is_some_and(|value| {
        let value = value.to_string_lossy().to_ascii_lowercase();
        value.contains("utf-8") || value.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Look; 2] = [
        Look { has_colours: true, has_attributes: true, is_unicode: true },
        Look { has_colours: false, has_attributes: false, is_unicode: false },
    ];

    #[test]
    fn a_bar_has_its_width_whatever_the_share() {
        for look in BOTH {
            for share in [-1.0, 0.0, 0.049, 0.05, 0.5, 0.999, 1.0, 7.0, f64::NAN] {
                let (done, rest) = look.bar(share, 10);
                assert_eq!((done + &rest).chars().count(), 10, "{share}");
            }
        }
        assert_eq!(BOTH[0].bar(0.25, 10), ("━━╸".into(), "───────".into()));
        assert_eq!(BOTH[1].bar(0.25, 10), ("##".into(), "--------".into()));
    }

    #[test]
    fn a_level_shows_little_as_something() {
        assert_eq!([0.0, 0.001, 0.5, 1.0, 3.0].map(|share| BOTH[0].level(share)), ["▁", "▁", "▄", "█", "█"]);
    }
}
