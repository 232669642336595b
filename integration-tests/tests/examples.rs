//! Every program of the `examples` package runs and shows what it promises.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Output, Stdio},
};

use tempfile::TempDir;

use crate::{
    events::check::check_line,
    programs::{example, programs},
};

/// Each example with the argument that keeps it short without optimisation, and the texts it must show in this order.
const CHECKS: &[(&str, &[&str], &[&str])] = &[
    (
        "bootstrap",
        &["200"],
        &[
            "1599 red wines",
            "\nalcohol               +0.48  +0.4",
            "\nvolatile acidity      -0.39  -0.4",
            "\nresidual sugar        +0.01  -0.0",
            "\n200 resamples: ",
            " s distributed over ",
            "same digits",
        ],
    ),
    ("column_sums", &["2000"], &["100 x 2000 matrix", "fun(x.view())", "sums.columns(&x).wait()", "equal bit for bit"]),
    (
        "cross_validation",
        &["1"],
        &["red wines, 1 x 10-fold", "\n         1  0.7", "\n        20  0.6", "\nbest: ", "10 folds: ", "same digits"],
    ),
    (
        "embed_actix_web",
        &[],
        &[
            "listening on http://127.0.0.1:",
            "POST /lorenz [[1.0,1.000001,",
            "\n    200 [[",
            "\n    400 {\"error\":\"2 rows are not the three x, y and z",
            "\n    400 {\"error\":\"Json",
            "\nfinished\n",
        ],
    ),
    (
        "embed_axum",
        &[],
        &[
            "listening on http://127.0.0.1:",
            "POST /exponents [3.6,3.8,4.0]\n    200 [0.18423",
            "POST /jobs [2.5,",
            "\n    202 {",
            "20 short requests meanwhile: median ",
            "GET /status \n    200 {\"calls\":[{",
            "\n    409 {\"error\":\"job",
            "\n    200 {\"done\":",
            "\n    200 [-0.693147",
            "\n    400 {\"error\":\"the rate at index 1, 5, is not between 0 and 4",
            "\n    400 {\"error\":\"Failed to parse the request body as JSON",
            "\nfinished\n",
        ],
    ),
    (
        "gpu_columns",
        &["2000"],
        &["64 x 2000 matrix; in a plain loop ", "\ndistributed ", "\nequal to one part in 100000\n"],
    ),
    ("gpu_scale", &[], &["32 vectors of 60000 elements, scaled"]),
    (
        "incidents",
        &[],
        &[
            "panic: an item whose function panics\n  panic.ndjson, ",
            "\n    ERROR item 17 of call 1 panicked: no values to take the mean of (",
            "\ncrash: ",
            "\n    WARN  worker ",
            " died at item 7 of call 1, attempt 1 of 3; the item is tried again",
            " is started again: its process died",
            "\nnode-lost: ",
            "\n    WARN  nothing comes from 127.0.0.1:",
            "\n    ERROR 127.0.0.1:",
            " is lost: ",
            "\n  node-lost.node-a.ndjson, ",
            "\n  node-lost.node-b.ndjson, ",
            "\nstalled: ",
            "\n    WARN  127.0.0.1:",
            " can't be used: no connection to ",
            "\n    WARN  nothing has got on for ",
            "\nhang: ",
            "\n    ERROR item 13 of call 1 failed: it ran longer than 1s and was stopped",
            "\nall as expected, in ",
        ],
    ),
    (
        "inverse",
        &[],
        &["[[0.600, -0.700],\n [-0.200, 0.400]]", "1 of 2 items failed", "the matrix is singular", "item 0 finished"],
    ),
    (
        "isolated",
        &[],
        &[
            "item 7 on worker ",
            "3 workers died while running it; the last was killed by SIGABRT (signal 6)",
            "\nitem 12 on worker ",
            "ran longer than 300ms and was stopped",
            "\nfinished: [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 13, ",
        ],
    ),
    (
        "machines",
        &["--rows", "120"],
        &[
            "\n  ",
            "##########",
            "\n120 x 120 points: its area is 1.5",
            "\nalone: ",
            "\nwith two nodes: ",
            "\nthe same lines; both nodes have stopped\n",
        ],
    ),
    (
        "model_fit",
        &[],
        &[
            "1 s of voltage with 15 spikes",
            "\n         1    1.",
            "\nleak conductance          30.",
            "every parameter is within 1 %",
            "a generation took ",
        ],
    ),
    (
        "monte_carlo_pi",
        &["8"],
        &[
            "plain loop  pi = 3.1",
            "1 slot      pi = 3.1",
            "2 slots     pi = 3.1",
            "every CPU   pi = 3.1",
            "same digits everywhere",
        ],
    ),
    (
        "shared_data",
        &["2"],
        &[
            "built SharedData {\"calibration\": a value of type shared_data::Calibration",
            "\"signal\": an array of f64 with shape [2621, 100], 2.0 MiB}",
            "first call: 100 phases of 2621 samples",
            "second call: ",
            "MiB for 2 MiB of data",
            "another recording: [39774.0]",
            "on purpose: ",
            "shared data \"signal\" is an array of f64 with shape [10, 100]",
            "MiB after finished()",
        ],
    ),
    ("shipped", &[], &["sum of digits 10017, in a plain loop 10017"]),
];

/// The examples, without the `distfun` command.
fn names() -> impl Iterator<Item = &'static str> {
    programs().filter(|name| *name != "distfun")
}

fn run(name: &str, arguments: &[&str]) -> Output {
    example(name).args(arguments).output().expect("a program that was just built starts")
}

#[test]
fn every_example_shows_what_it_promises() {
    let known: Vec<&str> = CHECKS.iter().map(|check| check.0).collect();
    let found: Vec<&str> = names().collect();
    assert_eq!(found, known, "left, the examples that exist; right, those with a check in CHECKS, by name");

    for (name, arguments, texts) in CHECKS {
        let output = run(name, arguments);
        let shown = String::from_utf8(output.stdout).expect("the examples print UTF-8");
        assert!(output.status.success(), "{name} failed: {shown}{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{name} writes to stderr: {}", String::from_utf8_lossy(&output.stderr));
        texts.iter().fold(shown.as_str(), |rest, text| match rest.split_once(text) {
            Some((_, rest)) => rest,
            None => panic!("{name} should show {text:?} after what comes before it in CHECKS:\n{shown}"),
        });
    }
}

#[test]
fn the_table_of_the_first_example_fits_80_columns() {
    let shown = String::from_utf8(run("bootstrap", &["200"]).stdout).expect("UTF-8");
    let widest = shown.lines().max_by_key(|line| line.chars().count()).expect("it prints lines");
    assert!(widest.chars().count() <= 80, "{widest}");
}

#[test]
fn the_fit_is_the_same_on_any_number_of_slots() {
    let fit_on = |slots: &str| {
        let output = example("model_fit").env("DISTFUN_SLOTS", slots).output().expect("it starts");
        let shown = String::from_utf8(output.stdout).expect("UTF-8");
        let (digits, time) = shown.split_once("a generation took ").expect("the time is at the end");
        assert!(time.contains(&format!("on {slots} slot")), "{time}");
        digits.to_owned()
    };
    assert_eq!(fit_on("1"), fit_on("3"));
}

/// A node that ends with the test, however that ends.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

#[test]
fn one_program_computes_the_same_alone_and_with_nodes_and_every_machine_has_a_part() {
    let home = TempDir::new().expect("a folder");
    let machines = || {
        let mut program = example("machines");
        program.env("DISTFUN_COOKIE", home.path().join("cookie")).env("DISTFUN_CACHE", home.path().join("cache"));
        // More slots than items to begin with would leave a machine without any.
        program.env("DISTFUN_SLOTS", "1");
        program
    };
    let serve = |_| {
        let serving = machines().args(["--serve", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn();
        let mut node = Node(serving.expect("it starts"));
        let mut said = String::new();
        let stdout = node.0.stdout.as_mut().expect("it is piped");
        BufReader::new(stdout).read_line(&mut said).expect("UTF-8");
        let address = said.trim().strip_prefix("serving at ").expect("it says where it listens").to_owned();
        (node, address)
    };
    let nodes: Vec<(Node, String)> = (0..2).map(serve).collect();
    let addresses: Vec<&str> = nodes.iter().map(|(_, address)| address.as_str()).collect();

    let run = |arguments: &[&str]| {
        let output = machines().args(["--rows", "300"]).args(arguments).output().expect("it starts");
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8"));
        assert!(output.status.success(), "{stderr}");
        (stdout, stderr)
    };
    let (alone, stderr) = run(&["--alone"]);
    assert_eq!(stderr, "");
    let log = home.path().join("log").to_str().expect("UTF-8").to_owned();
    let (together, places) = run(&["--log", &log, "--machines", addresses[0], addresses[1]]);
    assert_eq!(together, alone);
    for place in ["here", addresses[0], addresses[1]] {
        let has_a_part =
            places.lines().any(|line| line.starts_with(&format!("{place}: ")) && line.ends_with(" chunks"));
        assert!(has_a_part, "{place} computed nothing:\n{places}");
    }
    let log = fs::read_to_string(log).expect("it has written a log");
    let lines: Vec<_> = log.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert!(!lines.is_empty());
    lines.iter().for_each(check_line);
}

/// Two nodes that never saw the program, then processes here.
#[cfg(target_os = "linux")]
#[test]
fn a_program_runs_on_nodes_that_know_nothing_with_the_same_output() {
    let home = TempDir::new().expect("a folder");
    let with = |name: &str| {
        let mut program = example(name);
        program.env("DISTFUN_COOKIE", home.path().join("cookie")).env("DISTFUN_CACHE", home.path().join("cache"));
        program
    };
    let serve = |_| {
        let mut node = with("distfun");
        node.args(["node", "--listen", "127.0.0.1:0", "--slots", "1"]);
        let mut node = Node(node.stdout(Stdio::piped()).spawn().expect("it starts"));
        let mut said = String::new();
        BufReader::new(node.0.stdout.as_mut().expect("it is piped")).read_line(&mut said).expect("UTF-8");
        let address = said.split(" serves at ").nth(1).and_then(|rest| rest.split(';').next()).expect("it says where");
        (node, address.to_owned())
    };
    let nodes: Vec<(Node, String)> = (0..2).map(serve).collect();
    let run = |arguments: &[&str]| {
        let output = with("shipped").args(arguments).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let here = run(&[]);
    let there = run(&[&nodes[0].1, &nodes[1].1]);
    assert_eq!(there, here);
    assert!(there.starts_with("sum of digits 10017"), "{there}");
    // By their hash, once for both nodes.
    let kept = fs::read_dir(home.path().join("cache")).expect("a cache").count();
    assert!((1..=2).contains(&kept), "{kept}");
}

#[test]
fn an_argument_that_makes_no_sense_is_an_error() {
    for (name, argument) in [
        ("bootstrap", "5"),
        ("bootstrap", "many"),
        ("column_sums", "-1"),
        ("embed_actix_web", "--sreve"),
        ("embed_axum", "--port=70000"),
        ("embed_axum", "--max-calls=0"),
        ("gpu_columns", "0"),
        ("incidents", "--slwo"),
        ("machines", "--sreve"),
        ("machines", "--rows=120"),
        ("machines", "--machines"),
        ("model_fit", "3"),
        ("monte_carlo_pi", "0"),
    ] {
        assert!(!run(name, &[argument]).status.success(), "{name} {argument}");
    }
}

#[test]
fn the_readme_has_the_command_of_every_example() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/README.md");
    let readme = fs::read_to_string(readme).expect("examples/README.md");
    for name in names() {
        let is_there = readme.lines().any(|line| {
            line.starts_with("| `cargo run --release -p distfun-examples ")
                && line.contains(&format!(" --bin {name}` |"))
        });
        assert!(is_there, "the command of {name} is missing");
    }
}
