use std::{collections::BTreeMap, io, net::IpAddr, path::Path};

use proptest::prelude::*;

use super::*;

const PORT: u16 = 2718;

/// What there is to look up.
#[derive(Default)]
struct Fake {
    files: BTreeMap<&'static str, String>,
    variables: BTreeMap<&'static str, &'static str>,
    addresses: BTreeMap<&'static str, Vec<&'static str>>,
    services: BTreeMap<&'static str, Vec<(&'static str, u16)>>,
}

impl Sources for Fake {
    fn file(&mut self, path: &Path) -> io::Result<String> {
        self.files.get(path.to_str().unwrap()).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn env(&mut self, name: &str) -> Option<String> {
        self.variables.get(name).map(|text| (*text).to_owned())
    }

    fn dns(&mut self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = self.addresses.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(found.iter().map(|ip| ip.parse().unwrap()).collect())
    }

    fn srv(&mut self, name: &str) -> io::Result<Vec<(String, u16)>> {
        let found = self.services.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(found.iter().map(|(target, port)| ((*target).to_owned(), *port)).collect())
    }
}

/// Some of everything.
fn fake() -> Fake {
    Fake {
        files: [
            ("hosts", "\u{feff}# the rack\nn[01-02] # two\r\n\tann:2719*4, dns:cluster\n".into()),
            ("empty", "# none\n\n".into()),
            ("wrong", "ann\n\nbob bob:4\n".into()),
            ("bell\u{7}", "bob:4".into()),
            ("twice", "ann\nBOB\n".into()),
            ("loop", "file:loop".into()),
            ("large", " ".repeat(MAX_SOURCE_BYTES as usize + 1)),
        ]
        .into(),
        variables: [("NODES", "ann bob:2719,n[1,2]"), ("NONE", " "), ("WRONG", "ann http://bob"), ("LOOP", "env:LOOP")]
            .into(),
        addresses: [("cluster", vec!["10.0.0.7", "fe80::1", "10.0.0.7"]), ("none", vec![])].into(),
        services: [
            ("_distfun._tcp.lan", vec![("Bob.lan.", 2720), ("ann.lan", 2718)]),
            ("_none._tcp.lan", vec![(".", 0)]),
            ("_bad._tcp.lan", vec![("a b", 2718)]),
        ]
        .into(),
    }
}

fn shown(entries: &[&str]) -> Vec<String> {
    let list = MachineList::parse(entries, PORT).unwrap_or_else(|error| panic!("{entries:?}: {error}"));
    list.entries().map(ToString::to_string).collect()
}

fn refusal(entry: &str) -> String {
    let error = parse(entry, PORT).map(|entries| panic!("{entry:?} is {entries:?}")).unwrap_err().to_string();
    let start = format!("entry 1 ({:?}): ", error::shortened(entry));
    error.strip_prefix(&start).unwrap_or_else(|| panic!("{error}")).to_owned()
}

fn expanded(entries: &[&str]) -> Result<Vec<String>, MachinesError> {
    let machines = MachineList::parse(entries, PORT)?.expand(&mut fake())?;
    Ok(machines.iter().map(|machine| format!("{machine} at {}", machine.address)).collect())
}

#[test]
fn every_way_to_name_machines_is_read() {
    for (entry, expected) in [
        ("bob", "bob"),
        ("bob:2718", "bob"),
        ("bob:2719", "bob:2719"),
        (" Bob.LAN.  # the fast one", "bob.lan."),
        ("bob*4", "bob*4"),
        ("bob:2718*4", "bob*4"),
        ("bob:02719*4096", "bob:2719*4096"),
        ("10.0.0.7", "10.0.0.7"),
        ("10.0.0.[7-8]:2719*2", "10.0.0.7:2719*2 10.0.0.8:2719*2"),
        ("[::1]", "[::1]"),
        ("[FE80:0::1]:2719*2", "[fe80::1]:2719*2"),
        ("[fe80::1%eth0]", "[fe80::1%eth0]"),
        ("n[08-11]", "n08 n09 n10 n11"),
        ("n[8-10]", "n8 n9 n10"),
        ("n[1,3,5-7].lan:2719", "n1.lan:2719 n3.lan:2719 n5.lan:2719 n6.lan:2719 n7.lan:2719"),
        ("[1-2]n[03, 4]*2", "1n03*2 1n4*2 2n03*2 2n4*2"),
        ("n[0]", "n0"),
        ("my_host-2", "my_host-2"),
        ("dns:cluster", "dns:cluster"),
        ("dns:Cluster.lan:2719*4", "dns:cluster.lan:2719*4"),
        ("srv:_distfun._tcp.lan*4", "srv:_distfun._tcp.lan*4"),
        ("file:/etc/my hosts#1 # ours", "file:/etc/my hosts#1"),
        ("file: hosts", "file:hosts"),
        ("env:NODES", "env:NODES"),
        ("pipe:distfun*2", "pipe:distfun*2"),
    ] {
        assert_eq!(shown(&[entry]).join(" "), expected, "{entry}");
    }
    assert_eq!(shown(&["bob", "file:hosts", "ann"]), ["bob", "file:hosts", "ann"]);
    assert!(MachineList::parse::<&str>(&[], PORT).unwrap().is_empty());
}

#[cfg(unix)]
#[test]
fn a_local_socket_is_named_by_its_path() {
    assert_eq!(shown(&["unix:/run/distfun"]), ["unix:/run/distfun"]);
    assert!(refusal("unix:distfun").contains("as in unix:/run/user/1000/distfun"));
    let expected = "named pipes of other machines exist on Windows only; use TCP: .machines([\"bob\"])";
    assert_eq!(refusal(r"pipe:\\bob\pipe\x"), expected);
}

#[test]
fn a_name_has_the_port_only_where_it_is_not_the_usual_one() {
    let name = |entry: &str, port| match parse(entry, port).unwrap().remove(0) {
        Entry::Machine(machine) => machine.name.to_string(),
        entry => panic!("{entry:?}"),
    };
    assert_eq!((name("bob", 2719), name("bob:2719", 2719), name("bob:2718", 2719)), {
        ("bob".into(), "bob".into(), "bob:2718".into())
    });
    // Whoever has set such a port means it.
    assert_eq!((name("bob:443", 443), name("[::1]:2719", 443)), ("bob".into(), "[::1]:2719".into()));
}

#[test]
fn every_mistake_is_answered_with_what_to_write_instead() {
    for (entry, expected) in [
        ("", "it is empty"),
        ("bob:4", "port 4 is below 1024, where nodes don't listen; did you mean bob*4?"),
        ("bob:443*4", "port 443 is below 1024, where nodes don't listen"),
        ("bob:0", "port 0 is none that a node can be found at"),
        ("bob:65536", "port 65536 is larger than 65535"),
        ("bob:99999999999999999999", "is larger than 65535"),
        ("bob:", "did you mean bob?"),
        ("bob:ann", "port \"ann\" is not a number from 1 to 65535"),
        ("bob:-1", "port \"-1\" is not a number"),
        ("bob:+2718", "port \"+2718\" is not a number"),
        ("bob:271[8-9]", "; brackets stand in the host"),
        (":2718", "a host name is missing; did you mean localhost:2718?"),
        ("*4", "a host name is missing"),
        ("a:b:c", "it has more than one colon"),
        ("http://ann@bob:2718/x", "did you mean bob:2718?"),
        ("file:///etc/hosts", "did you mean file:/etc/hosts?"),
        ("user@bob", "did you mean bob?"),
        ("bob,ann", "make each machine an entry of its own: \"bob\", \"ann\""),
        ("bob ann", "it has a space in it; make each machine an entry of its own"),
        ("bob#1", "'#' can't be in one"),
        ("bob/ann", "'/' can't be in one"),
        ("büro", "'ü' can't be in one, only letters, digits, '-', '_' and '.'; write an international name"),
        ("n{1..3}", "; ranges stand in brackets, as in n[01-08]"),
        ("$NODES", "; for a variable write env:NAME"),
        ("bob..lan", "a part of it between dots is empty"),
        ("-bob", "begins or ends with '-'"),
        ("10.0.0.256", "nor an IPv4 address, which has four from 0 to 255"),
        ("10.0.0.[255-256]", "\"10.0.0.256\" is not a host name"),
        ("4", "ends with a number"),
        ("fe80::1", "an IPv6 address stands in brackets; did you mean [fe80::1]?"),
        ("[fe80::1", "its '[' has no ']'; did you mean [fe80::1]?"),
        ("[fe80::x]", "\"fe80::x\" is not an IPv6 address"),
        ("[::1]2718", "only :port may follow, and not \"2718\""),
        ("[::1]:4", "did you mean [::1]*4?"),
        ("bob*", "no number of slots behind the '*'; did you mean bob?"),
        ("bob*0", "0 slots would leave the machine idle"),
        ("bob*4097", "4097 slots are more than the 4096"),
        ("bob*99999999999", "99999999999 slots are more"),
        ("bob*x", "\"x\" is not a number of slots"),
        ("bob*4:2718", "did you mean bob:2718*4?"),
        ("4*bob", "did you mean bob*4?"),
        ("n[01-08", "its '[' has no ']'; did you mean n[01-08]?"),
        ("n[1,2.lan", "did you mean n[1,2].lan?"),
        ("n[1-2:2718", "did you mean n[1-2]:2718?"),
        ("n01-08]", "its ']' has no '['"),
        ("n[[1]]", "a bracket is inside another"),
        ("n[]", "a bracket is empty"),
        ("n[1,,2]", "nothing beside one of its commas"),
        ("n[1-]", "\"1-\" is neither a number nor a range"),
        ("n[a-c]", "\"a-c\" is neither a number nor a range"),
        ("n[1:3]", "\"1:3\" is neither a number nor a range"),
        ("n[8-1]", "the range 8-1 runs backwards; did you mean 1-8?"),
        ("n[08-1]", "runs backwards"),
        ("n[1-08]", "not the same number of digits"),
        ("n[0000000000000000001]", "has more than 18 digits"),
        ("FILE:hosts", "did you mean file:hosts?"),
        ("file:", "a path is missing"),
        ("env:$NODES", "did you mean env:NODES?"),
        ("env:", "\"\" is not the name of an environment variable"),
        ("dns:10.0.0.1", "so did you mean 10.0.0.1?"),
        ("dns:[::1]:2718", "so did you mean [::1]:2718?"),
        ("dns:bob:4", "port 4 is below 1024"),
        ("dns:", "a host name is missing"),
        ("srv:example.org", "did you mean srv:_distfun._tcp.example.org?"),
        ("srv:_distfun._tcp", "did you mean srv:_distfun._tcp.example.org?"),
        ("srv:_distfun._tcp.lan:2718", "did you mean srv:_distfun._tcp.lan?"),
        ("slurm:", "slurm: is not yet there"),
        ("ssh:ann@bob:22", "ssh: takes no port; give the host one in ~/.ssh/config, and write ssh:ann@bob"),
        ("pipe:", "the name of a local socket is missing"),
    ] {
        let error = refusal(entry);
        assert!(error.contains(expected), "{entry:?}\nis:  {error}\nnot: {expected}");
    }
    let long = "a".repeat(64);
    assert!(refusal(&long).ends_with("has 64 characters, and 63 is the most"));
    let long = vec!["a".repeat(62); 5].join(".");
    assert!(refusal(&long).ends_with("has 314 characters, and 253 is the most"));
}

/// What was suggested went to the terminal as it was: an entry from a file could move its cursor.
#[test]
fn what_may_be_written_instead_is_short_and_has_no_control_characters() {
    let bell = "\u{7}";
    for entry in [
        format!("http://{bell}/"),
        format!("ann@{bell}"),
        format!("FILE:{bell}"),
        format!("fe80::1%{bell}"),
        format!("dns:[{bell}"),
        format!("{bell}:"),
        format!("{bell}*"),
        format!("{bell}["),
        format!("srv:{bell}:1"),
        format!("ssh:{bell}"),
    ] {
        for entry in [&entry, &entry.replace(bell, &bell.repeat(1000)), &entry.replace(bell, &"9".repeat(1000))] {
            let error = refusal(entry);
            assert!(!error.contains(char::is_control) && error.len() < 1000, "{error:?}");
        }
    }
    for entry in [format!("bob:{}", "9".repeat(1000)), format!("bob*{}", "9".repeat(1000))] {
        assert!(refusal(&entry).len() < 300, "{}", refusal(&entry));
    }
    let error = expanded(&["file:bell\u{7}"]).unwrap_err().to_string();
    assert!(error.contains("bell\u{fffd}:1 ("), "{error:?}");
    assert!(!error.contains(char::is_control), "{error:?}");
}

/// A text of a mebibyte was copied 65,536 times before anybody saw that it is too long for a name.
#[test]
fn a_name_that_is_too_long_is_not_expanded() {
    let entry = format!("{}[1-65536]", "a".repeat(1 << 20));
    assert!(refusal(&entry).contains("253 is the most"));
}

#[test]
fn an_error_names_the_entry_and_its_position() {
    let error = MachineList::parse(&["ann", "bob:4"], PORT).unwrap_err();
    let MachinesError::Malformed { spot, .. } = &error else { panic!("{error}") };
    assert_eq!((spot.text(), spot.position(), spot.file()), ("bob:4", 2, None));
    assert!(error.to_string().starts_with("entry 2 (\"bob:4\"): port 4"), "{error}");
    let error = expanded(&["ann:2720", "file:wrong"]).unwrap_err();
    let start = "entry 2 (\"file:wrong\"), wrong:3 (\"bob:4\"): port 4 is below";
    assert!(error.to_string().starts_with(start), "{error}");
    let MachinesError::Malformed { spot, .. } = &error else { panic!("{error}") };
    assert_eq!((spot.position(), spot.file()), (2, Some(("wrong".into(), 3))));
    let error = expanded(&["env:WRONG"]).unwrap_err().to_string();
    assert!(error.starts_with("entry 1 (\"env:WRONG\"), entry 2 of WRONG (\"http://bob\"): a node"), "{error}");
}

#[test]
fn an_address_that_is_there_twice_is_refused_with_both_places() {
    for (entries, expected) in [
        (&["bob", "ann", "BOB:2718*4"][..], "entry 3 (\"BOB:2718*4\"): it names bob:2718, as does entry 1 (\"bob\")"),
        (&["n[1,3,1-2]"], "entry 1 (\"n[1,3,1-2]\"): it names n1:2718, which it names already; leave one of them out"),
        (&["[::1]", "[0::1]"], "it names [::1]:2718, as does entry 1 (\"[::1]\")"),
        (
            &["bob", "file:twice"],
            "entry 2 (\"file:twice\"), twice:2 (\"BOB\"): it names bob:2718, as does entry 1 (\"bob\")",
        ),
        (
            &["file:hosts", "10.0.0.7"],
            "it names 10.0.0.7:2718, as does entry 1 (\"file:hosts\"), hosts:3 (\"dns:cluster\")",
        ),
    ] {
        let error = expanded(entries).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\nnot: {expected}");
    }
    // Two nodes of one machine are two.
    assert_eq!(expanded(&["bob", "bob:2719"]).unwrap().len(), 2);
}

#[test]
fn what_is_named_is_looked_up_in_order_and_every_address_counts() {
    assert_eq!(
        expanded(&["bob", "file:hosts", "srv:_distfun._tcp.lan*2"]).unwrap(),
        [
            "bob at bob:2718",
            "n01 at n01:2718",
            "n02 at n02:2718",
            "ann:2719*4 at ann:2719",
            "10.0.0.7 at 10.0.0.7:2718",
            "[fe80::1] at [fe80::1]:2718",
            "bob.lan:2720*2 at bob.lan:2720",
            "ann.lan*2 at ann.lan:2718",
        ]
    );
    assert_eq!(expanded(&["env:NODES"]).unwrap().len(), 4);
    assert_eq!(expanded(&["dns:cluster:2719*3"]).unwrap()[0], "10.0.0.7:2719*3 at 10.0.0.7:2719");
}

#[test]
fn what_cannot_be_looked_up_or_names_nothing_is_refused() {
    for (entry, expected) in [
        ("file:nowhere", "it can't be looked up: entity not found; correct the path"),
        ("env:UNSET", "the variable is not set; set it, or leave the entry out"),
        ("dns:nowhere", "entity not found; correct the name"),
        ("srv:_a._tcp.nowhere", "entity not found; correct the name"),
        ("file:empty", "there is no machine in it"),
        ("env:NONE", "there is no machine in it"),
        ("dns:none", "there is no machine in it"),
        ("srv:_none._tcp.lan", "there is no machine in it"),
        ("srv:_bad._tcp.lan", "a record has a target that can't be: \"a b\" is not a host name"),
        ("file:loop", "loop:1 (\"file:loop\"): a file or variable that is named in a list can't name another"),
        ("env:LOOP", "entry 1 of LOOP (\"env:LOOP\"): a file or variable"),
        ("file:large", "it has 1048577 bytes, and 1048576 is the most for machines"),
    ] {
        let error = expanded(&[entry]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\nnot: {expected}");
    }
}

#[test]
fn a_list_ends_where_it_may_and_says_by_how_much_it_is_too_long() {
    assert_eq!(parse("n[1-65536]", PORT).unwrap().len(), MAX_MACHINES);
    let error = parse("n[0-65536]", PORT).unwrap_err().to_string();
    assert!(error.contains("has 65537 machines, and 65536 is the most"), "{error}");
    let error = MachineList::parse(&["bob", "n[1-256]m[1-256]"], PORT).unwrap_err().to_string();
    assert!(error.starts_with("entry 2 (\"n[1-256]m[1-256]\"): with it the list has 65537 machines"), "{error}");
    // More than there are numbers, and no time or memory spent on it.
    let most = "[0-999999999999999999]".repeat(20);
    assert!(matches!(parse(&most, PORT), Err(MachinesError::TooMany { count: u64::MAX, .. })));
    let error = expanded(&["n[1-65535]", "dns:cluster"]).unwrap_err().to_string();
    assert!(error.starts_with("entry 2 (\"dns:cluster\"): with it the list has 65537"), "{error}");
}

/// Texts that look like entries, right and wrong.
fn entry_like() -> impl Strategy<Value = String> {
    "(n|Bob|\\.|-|:|\\*|\\[|\\]|,|[0-9]{1,3}|2718|::1|fe80|%| |#|/|@|\\\\|é|file:|env:|dns:|srv:|_a\\._tcp\\.|unix:|pipe:|ssh:|http://|\u{0}|\n){0,12}"
}

proptest! {
    #[test]
    fn nothing_that_may_be_written_makes_it_panic_or_gives_more_than_the_most(text in any::<String>()) {
        if let Ok(entries) = parse(&text, PORT) {
            prop_assert!((1..=MAX_MACHINES).contains(&entries.len()));
        }
        let parts: Vec<&str> = split(&text).map(|(_, part)| part).collect();
        let _ = MachineList::parse(&parts, PORT).map(|list| list.expand(&mut fake()));
    }

    #[test]
    fn what_is_shown_of_an_entry_reads_as_the_same_entry(text in entry_like(), port in prop::sample::select(vec![PORT, 2, 271])) {
        if let Ok(entries) = parse(&text, port) {
            for entry in entries.into_iter().take(50) {
                prop_assert_eq!(parse(&entry.to_string(), port), Ok(vec![entry]));
            }
        }
    }

    #[test]
    fn a_file_of_anything_gives_no_more_than_the_most(lines in prop::collection::vec(entry_like(), 0..6)) {
        let mut sources = fake();
        sources.files.insert("any", lines.join("\n"));
        let list = MachineList::parse(&["file:any"], PORT).unwrap();
        match list.expand(&mut sources) {
            Ok(machines) => prop_assert!((1..=MAX_MACHINES).contains(&machines.len())),
            Err(error) => prop_assert!(error.to_string().starts_with("entry 1 (\"file:any\")"), "{}", error),
        }
    }

    #[test]
    fn brackets_are_what_counting_gives(
        first in (0..30u64, 0..12u64), second in prop::collection::vec((0..30u64, 0..3u64), 1..3), width in 1..4usize,
    ) {
        let padded = |number: u64| format!("{number:0width$}");
        let range = |(from, len): (u64, u64)| format!("{}-{}", padded(from), padded(from + len));
        let list = second.iter().copied().map(range).collect::<Vec<_>>().join(",");
        let text = format!("a[{}]b[{list}].lan", range(first));
        let mut naive = Vec::new();
        for left in first.0..=first.0 + first.1 {
            for (from, len) in &second {
                for right in *from..=from + len {
                    naive.push(format!("a{}b{}.lan", padded(left), padded(right)));
                }
            }
        }
        let distinct = naive.iter().collect::<std::collections::BTreeSet<_>>().len() == naive.len();
        match parse(&text, PORT) {
            Ok(entries) => prop_assert_eq!(entries.iter().map(ToString::to_string).collect::<Vec<_>>(), naive),
            Err(error) => prop_assert!(!distinct && matches!(error, MachinesError::Twice { .. }), "{}: {}", text, error),
        }
    }
}
