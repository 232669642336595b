//! Reports for people: aligned rows.

use std::iter;

use console::Term;
use distfun::{gpu::GpuInfo, machines::MachineReport};

const HEADINGS: [&str; 8] = ["machine", "address", "connected", "version", "built for", "slots", "gpus", "round trip"];

/// The first columns, which machines that can't be used have too.
const SHARED: usize = 2;

/// Between columns.
const GAP: &str = "  ";

/// Longest name of a GPU that is shown, in characters.
const MAX_NAME: usize = 30;

/// Less room than this for a reason, and it goes below its machine.
const NARROW: usize = 32;

/// Columns of the terminal that stdout is, if it is one.
pub(super) fn terminal_width() -> Option<usize> {
    let (_, columns) = Term::stdout().size_checked().filter(|_| console::user_attended())?;
    Some(columns.into())
}

/// A table; for a terminal of `width` columns, long reasons go on in the next line, and so does a second address. For a
/// pipe every machine is one line.
pub(super) fn of(reports: &[MachineReport], width: Option<usize>) -> String {
    render(&reports.iter().map(Row::from).collect::<Vec<_>>(), width)
}

struct Row {
    machine: String,
    addresses: Vec<String>,
    /// The other columns, or why there are none.
    node: Result<[String; HEADINGS.len() - SHARED], String>,
}

impl From<&MachineReport> for Row {
    fn from(report: &MachineReport) -> Self {
        let node = match &report.node {
            Ok(node) => Ok([
                if node.is_draining { "stopping".into() } else { "yes".into() },
                shown(&node.version),
                shown(&node.target),
                match report.slot_limit {
                    Some(limit) if limit < node.slots => format!("{limit} of {}", node.slots),
                    _ => node.slots.to_string(),
                },
                gpus(&node.gpus),
                format!("{:.2} ms", 1e3 * node.round_trip.as_secs_f64()),
            ]),
            Err(problem) => Err(shown(&problem.text)),
        };
        Self { machine: report.machine.clone(), addresses: report.addresses.clone(), node }
    }
}

/// How many GPUs there are, and what the first one is called.
fn gpus(gpus: &[GpuInfo]) -> String {
    let Some(first) = gpus.first() else { return "-".into() };
    format!("{} {}", gpus.len(), cut(&shown(&first.name)))
}

/// With a mark where something is left out.
fn cut(name: &str) -> String {
    match name.char_indices().nth(MAX_NAME) {
        Some(_) => name.chars().take(MAX_NAME - 1).chain(['…']).collect(),
        None => name.into(),
    }
}

/// What a node says of itself, without anything that a terminal might obey.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn render(rows: &[Row], width: Option<usize>) -> String {
    let is_narrow = width.is_some();
    // Of each row: its lines of addresses.
    let addresses: Vec<Vec<String>> = rows.iter().map(|row| address_lines(row, is_narrow)).collect();
    let mut widths = HEADINGS.map(str::len);
    for (row, addresses) in rows.iter().zip(&addresses) {
        let others = row.node.iter().flatten();
        let cells =
            [iter::once(&row.machine).map(|cell| len(cell)).max(), addresses.iter().map(|cell| len(cell)).max()];
        let cells = cells.into_iter().map(Option::unwrap_or_default).chain(others.map(|cell| len(cell)));
        widths.iter_mut().zip(cells).for_each(|(width, cell)| *width = cell.max(*width));
    }
    let mut text = String::new();
    let mut put = |cells: &[&str]| {
        let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(padded.join(GAP).trim_end());
        text.push('\n');
    };
    put(&HEADINGS);
    let indent: usize = widths[..SHARED].iter().map(|width| width + GAP.len()).sum();
    for (row, addresses) in rows.iter().zip(&addresses) {
        let node: Vec<Vec<String>> = match (&row.node, width) {
            (Ok(cells), _) => vec![cells.to_vec()],
            (Err(reason), None) => vec![vec![format!("no: {reason}")]],
            (Err(reason), Some(width)) if width < indent + NARROW => {
                put(&[&row.machine, &addresses[0], "no"]);
                addresses[1..].iter().for_each(|address| put(&["", address]));
                wrap(reason, width.saturating_sub(4)).iter().for_each(|line| put(&[&format!("    {line}")]));
                continue;
            }
            (Err(reason), Some(width)) => {
                wrap(&format!("no: {reason}"), width - indent).into_iter().map(|line| vec![line]).collect()
            }
        };
        for line in 0..node.len().max(addresses.len()) {
            let machine = if line == 0 { row.machine.as_str() } else { "" };
            let mut cells = vec![machine, addresses.get(line).map_or("", String::as_str)];
            cells.extend(node.get(line).into_iter().flatten().map(String::as_str));
            put(&cells);
        }
    }
    text
}

fn address_lines(row: &Row, is_narrow: bool) -> Vec<String> {
    match &row.addresses[..] {
        [] => vec!["-".into()],
        all if is_narrow => all.to_vec(),
        all => vec![all.join(",")],
    }
}

fn len(text: &str) -> usize {
    text.chars().count()
}

/// Lines of at most `width` characters, unless a word is longer.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        if line.is_empty() {
            line.push_str(word);
        } else if len(line) + 1 + len(word) <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.into());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> [Row; 3] {
        let ok = ["yes", "0.1.0", "x86_64-linux", "4 of 8", "-", "0.11 ms"].map(String::from);
        let row = |machine: &str, addresses: &[&str], node| Row {
            machine: machine.into(),
            addresses: addresses.iter().copied().map(String::from).collect(),
            node,
        };
        [
            row("bob", &["10.0.0.2:2718", "[fd00::2]:2718"], Ok(ok)),
            row("ann:2719", &["10.0.0.3:2719"], Err("nobody listens there; start a node on that machine".into())),
            row("carol", &[], Err("the name is not known".into())),
        ]
    }

    #[test]
    fn in_a_pipe_every_machine_is_one_line() {
        let expected = "\
machine   address                       connected  version  built for     slots   gpus  round trip
bob       10.0.0.2:2718,[fd00::2]:2718  yes        0.1.0    x86_64-linux  4 of 8  -     0.11 ms
ann:2719  10.0.0.3:2719                 no: nobody listens there; start a node on that machine
carol     -                             no: the name is not known
";
        assert_eq!(render(&rows(), None), expected);
    }

    #[test]
    fn on_a_terminal_reasons_and_addresses_go_on_below_themselves() {
        let expected = "\
machine   address         connected  version  built for     slots   gpus  round trip
bob       10.0.0.2:2718   yes        0.1.0    x86_64-linux  4 of 8  -     0.11 ms
          [fd00::2]:2718
ann:2719  10.0.0.3:2719   no: nobody listens there; start a
                          node on that machine
carol     -               no: the name is not known
";
        assert_eq!(render(&rows(), Some(60)), expected);
    }

    #[test]
    fn on_a_narrow_terminal_reasons_go_below_their_machine() {
        let expected = "\
ann:2719  10.0.0.3:2719   no
    nobody listens there; start a node
    on that machine
";
        assert!(render(&rows(), Some(40)).contains(expected), "{}", render(&rows(), Some(40)));
    }

    #[test]
    fn a_long_name_of_a_gpu_shows_that_it_goes_on() {
        assert_eq!(cut("llvmpipe (LLVM 20.1.8, 256 bits)"), "llvmpipe (LLVM 20.1.8, 256 bi…");
        assert_eq!(cut("NVIDIA GeForce RTX 4090 Laptop"), "NVIDIA GeForce RTX 4090 Laptop");
    }

    #[test]
    fn what_a_node_says_can_not_command_a_terminal() {
        assert_eq!(shown("0.1\u{1b}[2J"), "0.1 [2J");
    }
}
