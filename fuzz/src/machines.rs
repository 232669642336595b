//! Lists of machines: what is read can be written and read again, and what can't be read is said in one line.

use std::{cell::Cell, io, net::IpAddr, path::Path};

use distfun_core::machines::{MAX_MACHINES, MachineList, Sources, parse};

const PORT: u16 = 2718;

/// `data` is the entries of a list, one a line; behind a zero byte follows what is found in files, variables and by
/// names.
///
/// # Panics
/// If an entry is another once written, or there are too many, or an error is not one line.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (list, found) = text.split_once('\0').unwrap_or((&text, "bob"));
    let entries: Vec<&str> = list.split('\n').collect();
    let list = match MachineList::parse(&entries, PORT) {
        Ok(list) => list,
        Err(error) => return check_line(&error.to_string()),
    };
    assert!(list.entries().len() <= MAX_MACHINES);
    for entry in list.entries().take(50) {
        let shown = entry.to_string();
        assert_eq!(parse(&shown, PORT).as_deref(), Ok(std::slice::from_ref(entry)), "{shown:?}");
    }
    match list.expand(&mut Found { text: found, turn: Cell::new(0) }) {
        Ok(machines) => assert!(machines.len() <= MAX_MACHINES),
        Err(error) => check_line(&error.to_string()),
    }
}

#[track_caller]
fn check_line(text: &str) {
    assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?}");
    assert!(text.len() < 4096, "{} bytes", text.len());
}

/// Finds the same text everywhere.
struct Found<'t> {
    text: &'t str,
    turn: Cell<u8>,
}

impl Found<'_> {
    fn words(&self) -> impl Iterator<Item = &str> {
        self.text.split_whitespace()
    }
}

impl Sources for Found<'_> {
    fn file(&mut self, path: &Path) -> io::Result<String> {
        if path.ends_with("missing") { Err(io::ErrorKind::NotFound.into()) } else { Ok(self.text.to_owned()) }
    }

    fn env(&mut self, name: &str) -> Option<String> {
        (name != "MISSING").then(|| self.text.to_owned())
    }

    fn dns(&mut self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(self.words().filter_map(|word| word.parse().ok()).collect())
    }

    fn srv(&mut self, _: &str) -> io::Result<Vec<(String, u16)>> {
        self.turn.set(self.turn.get().wrapping_add(1));
        let port = |index: usize| (index as u16 + u16::from(self.turn.get())).wrapping_mul(257);
        Ok(self.words().enumerate().map(|(index, word)| (word.to_owned(), port(index))).collect())
    }
}

/// Entries of all kinds.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let lists = [
        "bob\nbob:2719*4\n10.0.0.7\n[fe80::1%eth0]:2719\n[::1]*3",
        "n[01-08]\nr[1-2]n[1,3,5-7].lan:2719 # a comment\n",
        "dns:nodes.lan:2719*4\0 10.0.0.1 10.0.0.2 ::1 10.0.0.1",
        "srv:_distfun._tcp.example.org\0a.lan. . b.lan c-d.lan",
        "file:hosts\0# all\nbob*2, ann\r\nn[1, 2] dns:x\n\u{feff}",
        "env:HOSTS\nfile:missing\0bob,ann:3000",
        "unix:/run/distfun.sock*4\npipe:distfun",
        "http://ann@bob:80/x\nann@bob\nSSH:bob\nslurm:\nfe80::1\nbob:80\n*4\nn[1-\nn]1\nn[[1]]\nn[8-01]",
        "n[1-70000]\nn[1-9][1-9][000000000000000001-999999999999999999]",
        "b\u{e4}r\nx\u{1b}[m\na..b\n-a\n256.1.1.1\nbob:\nbob:x\nbob*\nbob*0\nbob*99999\nenv:$X\nsrv:x\ndns:1.2.3.4",
    ];
    // Each alone too: an error ends the list.
    let alone = lists.iter().flat_map(|list| list.split('\0').next().unwrap_or_default().split('\n'));
    lists.iter().copied().chain(alone).map(|text| text.as_bytes().to_vec()).collect()
}
