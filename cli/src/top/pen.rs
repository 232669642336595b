//! Writes on a part of the screen, and nowhere else.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{
    look::{Look, Mark, Tone},
    words,
};

/// A part of the screen with what it is drawn with.
pub(crate) struct Pen<'a> {
    buffer: &'a mut Buffer,
    pub(crate) look: Look,
    area: Rect,
}

impl<'a> Pen<'a> {
    pub(crate) fn new(buffer: &'a mut Buffer, look: Look, area: Rect) -> Self {
        let area = area.intersection(buffer.area);
        Self { buffer, look, area }
    }

    pub(crate) fn width(&self) -> usize {
        self.area.width.into()
    }

    pub(crate) fn height(&self) -> usize {
        self.area.height.into()
    }

    /// The part that begins at this row and has so many.
    pub(crate) fn rows(&mut self, from: usize, count: usize) -> Pen<'_> {
        self.part(0, from, self.width(), count)
    }

    pub(crate) fn part(&mut self, x: usize, y: usize, width: usize, height: usize) -> Pen<'_> {
        let (x, y) = (x.min(self.width()), y.min(self.height()));
        let area = Rect {
            x: self.area.x + x as u16,
            y: self.area.y + y as u16,
            width: width.min(self.width() - x) as u16,
            height: height.min(self.height() - y) as u16,
        };
        Pen { buffer: self.buffer, look: self.look, area }
    }

    /// Writes as much of `text` as there is room for; says where it ends.
    pub(crate) fn put(&mut self, x: usize, y: usize, text: &str, tone: Tone) -> usize {
        let style = self.look.style(tone);
        self.put_styled(x, y, text, style)
    }

    pub(crate) fn put_styled(&mut self, x: usize, y: usize, text: &str, style: Style) -> usize {
        if x >= self.width() || y >= self.height() {
            return x;
        }
        let (left, top) = (self.area.x + x as u16, self.area.y + y as u16);
        let (end, _) = self.buffer.set_stringn(left, top, text, self.width() - x, style);
        (end - self.area.x).into()
    }

    /// Writes what fits of `text`, with a sign that there was more.
    pub(crate) fn put_cut(&mut self, x: usize, y: usize, text: &str, tone: Tone) -> usize {
        let room = self.width().saturating_sub(x);
        let text = words::head(&words::line(text), room, self.ellipsis());
        self.put(x, y, &text, tone)
    }

    pub(crate) fn mark(&mut self, x: usize, y: usize, mark: Mark) -> usize {
        let (text, tone) = self.look.mark(mark);
        self.put(x, y, text, tone)
    }

    pub(crate) fn bar(&mut self, x: usize, y: usize, share: f64, width: usize, tone: Tone) -> usize {
        let (done, rest) = self.look.bar(share, width);
        let end = self.put(x, y, &done, tone);
        self.put(end, y, &rest, Tone::Quiet)
    }

    /// Gives a whole row this style too.
    pub(crate) fn tint(&mut self, y: usize, style: Style) {
        if y < self.height() {
            let row = Rect { y: self.area.y + y as u16, height: 1, ..self.area };
            self.buffer.set_style(row, style);
        }
    }

    pub(crate) fn clear(&mut self) {
        for position in self.area.positions() {
            self.buffer[position].reset();
        }
    }

    /// A line across, with a title in it.
    pub(crate) fn rule(&mut self, y: usize, title: &str) {
        let line = self.look.pick("─", "-");
        let across = line.repeat(self.width());
        self.put(0, y, &across, Tone::Quiet);
        if !title.is_empty() {
            let room = self.width().saturating_sub(4);
            let title = words::head(&words::line(title), room, self.ellipsis());
            self.put(2, y, &format!(" {title} "), Tone::Title);
        }
    }

    pub(crate) fn ellipsis(&self) -> &'static str {
        self.look.pick("…", "~")
    }
}
