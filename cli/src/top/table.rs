//! Rows and columns that fit any width, sorted and filtered as the user has chosen.

use super::{
    look::{Mark, Tone},
    pen::Pen,
    ui::{Key, Pane},
    words,
};

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// Characters that it needs.
    width: usize,
    /// Where there is no room for all, those with higher ranks are left out.
    rank: u8,
    is_right: bool,
    /// Takes what the others leave.
    grows: bool,
}

/// For words.
pub(crate) const fn left(name: &'static str, width: usize, rank: u8) -> Column {
    Column { name, width, rank, is_right: false, grows: false }
}

/// For numbers.
pub(crate) const fn right(name: &'static str, width: usize, rank: u8) -> Column {
    Column { name, width, rank, is_right: true, grows: false }
}

/// For texts, in what room is left.
pub(crate) const fn rest(name: &'static str, width: usize, rank: u8) -> Column {
    Column { name, width, rank, is_right: false, grows: true }
}

/// What stands in a column of a row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
    mark: Option<Mark>,
    /// It is drawn as a bar.
    share: Option<f64>,
    /// What it is sorted by, where that is not its text.
    number: Option<f64>,
    /// It is the path of a function, whose end is more telling than its beginning.
    keeps_end: bool,
    indent: usize,
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    pub(crate) fn marked(mark: Mark, text: impl Into<String>) -> Self {
        Self { mark: Some(mark), ..Self::text(text) }
    }

    /// The last parts of its name.
    pub(crate) fn function(name: &str) -> Self {
        Self { keeps_end: true, ..Self::text(words::function(name)) }
    }

    pub(crate) fn number(number: f64, text: String) -> Self {
        Self { number: Some(number), ..Self::text(text) }
    }

    pub(crate) fn indented(self, indent: usize) -> Self {
        Self { indent, ..self }
    }

    /// By this number, whatever it says.
    pub(crate) fn sorted(self, number: f64) -> Self {
        Self { number: Some(number), ..self }
    }

    /// A count that is of no interest where it is 0.
    pub(crate) fn count(count: u64) -> Self {
        let tone = if count == 0 { Tone::Quiet } else { Tone::Plain };
        Self::number(count as f64, words::count(count)).tone(tone)
    }

    pub(crate) fn duration(seconds: f64) -> Self {
        Self::number(seconds, words::elapsed(seconds))
    }

    pub(crate) fn share(share: Option<f64>) -> Self {
        share.map_or_else(Self::none, |share| Self::number(share, words::percent(share)))
    }

    pub(crate) fn bar(share: Option<f64>, tone: Tone) -> Self {
        Self { share, number: Some(share.unwrap_or(-1.0)), tone, ..Self::default() }
    }

    /// Nothing is known.
    pub(crate) fn none() -> Self {
        Self { number: Some(-1.0), tone: Tone::Quiet, ..Self::text("-") }
    }

    pub(crate) fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    /// In this tone if it counts anything.
    pub(crate) fn grave(self, tone: Tone) -> Self {
        if self.number > Some(0.0) { self.tone(tone) } else { self }
    }
}

/// One thing.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) key: Key,
    pub(crate) cells: Vec<Cell>,
    pub(crate) has_failed: bool,
    /// It has ended.
    pub(crate) is_over: bool,
}

/// Things, with what to say where there are none.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Row>,
    pub(crate) empty: &'static str,
    /// Its order says something: it stays.
    pub(crate) is_ordered: bool,
}

impl Table {
    /// As the user has chosen.
    pub(crate) fn arranged(mut self, pane: &Pane) -> Self {
        let filter = pane.filter.to_lowercase();
        self.rows.retain(|row| {
            (!pane.failed_only || row.has_failed)
                && (filter.is_empty() || row.cells.iter().any(|cell| cell.text.to_lowercase().contains(&filter)))
        });
        let Some(column) = pane.sort.filter(|column| !self.is_ordered && *column < self.columns.len()) else {
            return self;
        };
        self.rows.sort_by(|a, b| {
            let (a, b) = (&a.cells[column], &b.cells[column]);
            let order = match (a.number, b.number) {
                // Much first.
                (Some(a), Some(b)) => b.total_cmp(&a),
                (a, b) => a.is_some().cmp(&b.is_some()),
            };
            let order = order.then_with(|| a.text.cmp(&b.text));
            if pane.is_reversed { order.reverse() } else { order }
        });
        self
    }

    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.rows.iter().map(|row| &row.key)
    }

    /// With its heading, and the selected row in sight.
    pub(crate) fn draw(&self, pen: &mut Pen<'_>, pane: &Pane) {
        let layout = self.layout(pen.width());
        self.heading(pen, &layout, pane);
        let mut body = pen.rows(1, pen.height());
        if self.rows.is_empty() {
            let hides = pane.failed_only || !pane.filter.is_empty();
            let text = if hides { "nothing of that kind (/ filters, f shows failed ones only)" } else { self.empty };
            for (y, line) in words::wrap(text, body.width().saturating_sub(2)).iter().enumerate() {
                body.put(1, y, line, Tone::Quiet);
            }
            return;
        }
        let selected = pane.position(self.keys());
        let first = first_shown(selected, self.rows.len(), body.height());
        for (y, (index, row)) in self.rows.iter().enumerate().skip(first).take(body.height()).enumerate() {
            self.row(&mut body, y, row, &layout, selected == Some(index));
        }
        let shown = self.rows.len().min(first + body.height());
        if shown - first < self.rows.len() {
            let text = format!(" {}-{shown} of {} ", first + 1, self.rows.len());
            let x = pen.width().saturating_sub(words::width(&text));
            pen.put(x, 0, &text, Tone::Quiet);
        }
    }

    pub(crate) fn heading(&self, pen: &mut Pen<'_>, layout: &[Place], pane: &Pane) {
        for place in layout {
            let column = &self.columns[place.column];
            let is_sorted = pane.sort == Some(place.column) && !self.is_ordered;
            let sign = match (is_sorted, pane.is_reversed) {
                (false, _) => "",
                (true, false) => pen.look.pick("▾", "v"),
                (true, true) => pen.look.pick("▴", "^"),
            };
            let text = words::head(&format!("{}{sign}", column.name), place.width, "");
            let gap = if column.is_right { place.width - words::width(&text) } else { 0 };
            pen.put(place.x + gap, 0, &text, if is_sorted { Tone::Title } else { Tone::Quiet });
        }
    }

    pub(crate) fn row(&self, pen: &mut Pen<'_>, y: usize, row: &Row, layout: &[Place], is_selected: bool) {
        for place in layout {
            let Some(cell) = row.cells.get(place.column) else { continue };
            let is_right = self.columns[place.column].is_right;
            let tone = if row.is_over && cell.tone == Tone::Plain { Tone::Quiet } else { cell.tone };
            let mut part = pen.part(place.x, y, place.width, 1);
            if let Some(share) = cell.share {
                part.bar(0, 0, share, place.width, tone);
                continue;
            }
            let x = cell.mark.map_or(cell.indent, |mark| part.mark(cell.indent, 0, mark) + 1);
            let room = place.width.saturating_sub(x);
            let cut = if cell.keeps_end { words::function_in } else { words::head };
            let text = cut(&cell.text, room, part.ellipsis());
            let gap = if is_right { room.saturating_sub(words::width(&text)) } else { 0 };
            part.put(x + gap, 0, &text, tone);
        }
        if is_selected {
            pen.put(0, y, pen.look.pick("▸", ">"), Tone::Title);
            let style = pen.look.selected();
            pen.tint(y, style);
        }
    }

    /// Where the columns are, those for which there is room.
    pub(crate) fn layout(&self, width: usize) -> Vec<Place> {
        let mut kept: Vec<usize> = (0..self.columns.len()).collect();
        let needed = |kept: &[usize]| kept.iter().map(|&at| self.columns[at].width + 1).sum::<usize>();
        while needed(&kept) > width && kept.len() > 1 {
            let least = kept.iter().copied().max_by_key(|&at| (self.columns[at].rank, at));
            kept.retain(|&at| Some(at) != least);
        }
        let growing = kept.iter().filter(|&&at| self.columns[at].grows).count();
        let mut spare = width.saturating_sub(needed(&kept));
        let mut left = growing;
        let mut x = 1;
        kept.iter()
            .map(|&column| {
                let mut own = self.columns[column].width;
                if self.columns[column].grows {
                    let part = spare / left;
                    (own, spare, left) = (own + part, spare - part, left - 1);
                }
                let place = Place { column, x, width: own };
                x += own + 1;
                place
            })
            .collect()
    }
}

/// A column on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    column: usize,
    x: usize,
    width: usize,
}

/// The selected row is in the middle, but for the beginning and the end.
pub(crate) fn first_shown(selected: Option<usize>, count: usize, height: usize) -> usize {
    let middle = selected.unwrap_or(0).saturating_sub(height / 2);
    middle.min(count.saturating_sub(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(texts: &[(&str, u64)]) -> Table {
        let row = |(at, &(text, count)): (usize, &(&str, u64))| Row {
            key: Key::Process(at as u32),
            cells: vec![Cell::text(text), Cell::count(count)],
            has_failed: count > 1,
            is_over: false,
        };
        Table {
            columns: vec![rest("name", 4, 0), right("count", 5, 1)],
            rows: texts.iter().enumerate().map(row).collect(),
            empty: "none",
            is_ordered: false,
        }
    }

    fn names(pane: &Pane) -> Vec<String> {
        let table = table(&[("beta", 2), ("alpha", 10), ("gamma", 1)]).arranged(pane);
        table.rows.into_iter().map(|row| row.cells[0].text.clone()).collect()
    }

    #[test]
    fn rows_are_filtered_and_sorted_by_number_or_text() {
        assert_eq!(names(&Pane::default()), ["beta", "alpha", "gamma"]);
        assert_eq!(names(&Pane { sort: Some(0), ..Pane::default() }), ["alpha", "beta", "gamma"]);
        assert_eq!(names(&Pane { sort: Some(1), ..Pane::default() }), ["alpha", "beta", "gamma"]);
        assert_eq!(names(&Pane { sort: Some(1), is_reversed: true, ..Pane::default() }), ["gamma", "beta", "alpha"]);
        assert_eq!(names(&Pane { filter: "AMM".into(), ..Pane::default() }), ["gamma"]);
        assert_eq!(names(&Pane { failed_only: true, ..Pane::default() }), ["beta", "alpha"]);
    }

    #[test]
    fn columns_leave_by_rank_and_one_takes_what_is_left() {
        let widths = |width| -> Vec<_> { table(&[]).layout(width).iter().map(|place| place.width).collect() };
        assert_eq!(widths(20), [13, 5]);
        assert_eq!(widths(11), [4, 5]);
        assert_eq!(widths(10), [9]);
        assert_eq!(widths(1), [4]);
    }

    #[test]
    fn the_selection_is_in_sight_and_stays_when_its_row_is_gone() {
        assert_eq!([0, 2, 5, 9].map(|selected| first_shown(Some(selected), 10, 4)), [0, 0, 3, 6]);
        let pane = Pane { selected: Some(Key::Process(7)), index: 1, ..Pane::default() };
        let table = table(&[("a", 1), ("b", 1)]);
        assert_eq!(pane.position(table.keys()), Some(1));
        assert_eq!(pane.position([].iter()), None);
    }
}
