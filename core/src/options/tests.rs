use proptest::{option, prelude::*};

use super::*;

const CPUS: NonZeroUsize = NonZeroUsize::new(8).unwrap();

fn told(builder: Overrides) -> Told {
    Told { builder, flags: Overrides::default() }
}

fn variables(said: &[(impl AsRef<str>, impl AsRef<str>)]) -> Vec<(OsString, OsString)> {
    said.iter().map(|(name, value)| (name.as_ref().into(), value.as_ref().into())).collect()
}

fn resolve(builder: Overrides, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    Settings::resolve(&told(builder), variables(environment), None, CPUS)
}

fn file(text: &str) -> ConfigFile {
    ConfigFile { path: "/etc/distfun.toml".into(), bytes: text.into() }
}

#[test]
fn defaults_use_every_cpu_once_and_end_after_the_call() {
    let settings = resolve(Overrides::default(), &[("PATH", "/bin")]).unwrap();
    assert_eq!((settings.slots, settings.pinned), (8, true));
    assert_eq!((settings.endaftercall, settings.verbose, settings.seed), (true, false, 0));
    assert!(settings.held().iter().all(|held| held.origin == Origin::Default && held.said == "default"));
}

#[test]
fn the_builder_goes_before_the_environment() {
    let environment = [("DISTFUN_SLOTS", "3"), ("DISTFUN_VERBOSE", "yes"), ("DISTFUN_SEED", "5")];
    let settings = resolve(Overrides::default(), &environment).unwrap();
    assert_eq!((settings.slots, settings.verbose, settings.seed), (3, true, 5));
    let told = Overrides { max_cpu: Some(2), verbose: Some(false), ..Overrides::default() };
    let settings = resolve(told, &environment).unwrap();
    assert_eq!((settings.slots, settings.verbose, settings.seed, settings.pinned), (2, false, 5, false));
}

#[test]
fn more_cpus_than_exist_means_all_but_slots_are_exact() {
    assert_eq!(resolve(Overrides { max_cpu: Some(99), ..Overrides::default() }, &[]).unwrap().slots, 8);
    assert_eq!(resolve(Overrides { slots: Some(99), ..Overrides::default() }, &[]).unwrap().slots, 99);
}

#[test]
fn a_machine_with_more_cpus_than_there_may_be_slots_gets_as_many_as_may_be() {
    let many = NonZeroUsize::new(MAX_SLOTS + 1).unwrap();
    let settings = Settings::resolve(&Told::default(), [], None, many).unwrap();
    assert_eq!((settings.slots, settings.pinned), (MAX_SLOTS, false));
}

#[test]
fn what_cannot_hold_is_refused_with_the_remedy() {
    let told = |max_cpu, slots| Overrides { max_cpu, slots, ..Overrides::default() };
    let both = vec![("DISTFUN_MAX_CPU", "2"), ("DISTFUN_SLOTS", "3")];
    for (told, environment, text) in [
        (told(Some(0), None), vec![], "allow at least 1"),
        (told(None, Some(0)), vec![], "allow at least 1"),
        (told(Some(1), Some(1)), vec![], "both max_cpu (1) and slots (1) are given by the builder; keep max_cpu"),
        (told(None, None), both, "both max_cpu (2) and slots (3) are given by the environment; keep max_cpu"),
        (told(None, Some(1_000_000)), vec![], "more than the 4096 threads"),
        (
            told(None, None),
            vec![("DISTFUN_MAX_CPU", "two")],
            "DISTFUN_MAX_CPU=\"two\" is not a whole number, 0 or more",
        ),
        (told(None, None), vec![("DISTFUN_MAX_CPU", "-1")], "a whole number, 0 or more"),
        (told(None, None), vec![("DISTFUN_MAX_CPU", "0")], "allow at least 1, or name machines"),
        (told(None, None), vec![("DISTFUN_SLOTS", "0")], "allow at least 1, or name machines"),
        (told(None, None), vec![("DISTFUN_SLOTS", "4097")], "=\"4097\" is not a whole number from 0 to 4096"),
        (told(None, None), vec![("DISTFUN_SEED", "-1")], "0 or more"),
        (told(None, None), vec![("DISTFUN_SEED", "18446744073709551616")], "from 0 to 18446744073709551615; correct"),
        (told(None, None), vec![("DISTFUN_VERBOSE", "maybe")], "1 or 0, true or false"),
        (told(None, None), vec![("DISTFUN_PRIORITY", "top")], "=\"top\" is not \"low\", \"normal\" or \"high\""),
        (told(None, None), vec![("DISTFUN_MAXCPU", "2")], "did you mean DISTFUN_MAX_CPU?"),
        (told(None, None), vec![("DISTFUN_max_cpu", "2")], "DISTFUN_max_cpu is not a setting of distfun; did you"),
        (told(None, None), vec![("DISTFUN_CONFG", "x")], "did you mean DISTFUN_CONFIG?"),
        (told(None, None), vec![("DISTFUN_COLOUR_OF_THE_BAR", "red")], "known are DISTFUN_MAX_CPU, "),
        (told(None, None), vec![("DISTFUN_COOKY", "x")], "did you mean DISTFUN_COOKIE?"),
        (told(None, None), vec![("DISTFUN_PORT", "0")], "DISTFUN_PORT=\"0\" is not a whole number from 1 to 65535"),
        (told(None, None), vec![("DISTFUN_PORT", "65536")], "=\"65536\" is not a whole number from 1 to 65535"),
        (
            told(None, None),
            vec![("DISTFUN_MACHINES", "ann,bob:4")],
            "DISTFUN_MACHINES: entry 2 (\"bob:4\"): port 4 is below 1024, where nodes don't listen; did you mean bob*4?",
        ),
        (
            told(None, None),
            vec![("DISTFUN_NAMED_PIPE", "a/b")],
            "DISTFUN_NAMED_PIPE: \"a/b\" can't name a local socket",
        ),
        (Overrides { max_calls: Some(0), ..Overrides::default() }, vec![], "would refuse every call"),
        (Overrides { port: Some(0), ..Overrides::default() }, vec![], "port(0) is none that a node can be found at"),
        (
            Overrides { machines: Some(vec!["bob".into(), "".into()]), ..Overrides::default() },
            vec![],
            ".machines(): entry 2 (\"\"): it is empty",
        ),
    ] {
        let error = resolve(told, &environment).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn with_other_machines_none_of_the_work_has_to_be_done_here() {
    let machines = || Overrides { machines: Some(vec!["bob".into()]), ..Overrides::default() };
    let settings = resolve(Overrides { max_cpu: Some(0), ..machines() }, &[]).unwrap();
    assert_eq!((settings.slots, settings.pinned), (0, false));
    assert_eq!(resolve(Overrides { slots: Some(0), ..machines() }, &[]).unwrap().slots, 0);
    assert_eq!(resolve(machines(), &[("DISTFUN_MAX_CPU", "0")]).unwrap().slots, 0);
    let pipe = Overrides { named_pipe: Some(true.into()), max_cpu: Some(0), ..Overrides::default() };
    assert_eq!(resolve(pipe, &[]).unwrap().slots, 0);
    // A stronger source that wants none counts.
    let none = Overrides { machines: Some(vec![]), ..Overrides::default() };
    let environment = [("DISTFUN_MACHINES", "bob"), ("DISTFUN_MAX_CPU", "0")];
    assert_eq!(resolve(Overrides::default(), &environment).unwrap().slots, 0);
    let by = "DISTFUN_MAX_CPU=\"0\"".into();
    assert_eq!(resolve(none, &environment).unwrap_err(), SettingsError::NoSlots { by });
    let file = ConfigFile { path: "/etc/distfun.toml".into(), bytes: "machines = ['bob']\nslots = 0".into() };
    assert_eq!(Settings::resolve(&Told::default(), [], Some(&file), CPUS).unwrap().slots, 0);
    // A node has no others.
    let error = Settings::resolve_alone(&Told::default(), [], Some(&file), CPUS).unwrap_err().to_string();
    assert!(error.starts_with("/etc/distfun.toml:2:9: slots = 0 is not enough to compute on, since"), "{error}");
    let told = Told { flags: Overrides { max_cpu: Some(1), ..Overrides::default() }, ..Told::default() };
    let settings = Settings::resolve_alone(&told, [], Some(&file), CPUS).unwrap();
    assert_eq!((settings.slots, settings.machines.is_empty()), (1, true));
}

#[test]
fn a_limit_of_none_is_named_as_its_source_has_it() {
    let none = || Overrides { max_cpu: Some(0), ..Overrides::default() };
    let told = |builder, flags| Told { builder, flags };
    let file = |text: &str| ConfigFile { path: "/etc/distfun.toml".into(), bytes: text.into() };
    for (told, variable, text, by) in [
        (told(none(), Overrides::default()), None, "", "max_cpu(0)"),
        (told(Overrides::default(), none()), None, "", "--max-cpu 0"),
        (Told::default(), Some(("DISTFUN_SLOTS", "0")), "", "DISTFUN_SLOTS=\"0\""),
        (Told::default(), None, "seed = 1\n max_cpu = 0x0\n", "/etc/distfun.toml:2:12: max_cpu = 0x0"),
    ] {
        let environment = variable.map(|(name, value)| (name.into(), value.into()));
        let error = Settings::resolve(&told, environment, Some(&file(text)), CPUS).unwrap_err();
        assert_eq!(error, SettingsError::NoSlots { by: by.into() });
    }
}

#[test]
fn machines_are_a_list_or_a_text_and_are_read_with_the_port_that_holds() {
    let shown = |settings: &Settings| settings.machines.entries().map(ToString::to_string).collect::<Vec<_>>();
    for (text, expected) in [
        ("machines = ['bob', 'n[1,2]*4']", vec!["bob", "n1*4", "n2*4"]),
        ("machines = 'bob, n[1, 2]*4'", vec!["bob", "n1*4", "n2*4"]),
        ("machines = [\n 'bob',\n]\nport = 2719", vec!["bob"]),
        ("machines = []", vec![]),
        ("machines = ''", vec![]),
    ] {
        let settings = Settings::resolve(&Told::default(), [], Some(&file(text)), CPUS).unwrap();
        assert_eq!(shown(&settings), expected, "{text}");
    }
    let environment = [("DISTFUN_MACHINES", "bob ann:2719\tn[1,2],[::1]:2720"), ("DISTFUN_PORT", "2719")];
    let settings = resolve(Overrides::default(), &environment).unwrap();
    assert_eq!(shown(&settings), ["bob", "ann", "n1", "n2", "[::1]:2720"]);
    assert_eq!(settings.port, 2719);
    let held = settings.held();
    let held = held.iter().find(|held| held.key == "machines").unwrap();
    assert_eq!((held.value.as_str(), held.said.as_str()), ("bob ann:2719 n[1,2] [::1]:2720", "DISTFUN_MACHINES"));
}

#[test]
fn the_local_socket_is_a_flag_or_a_name() {
    for (value, name) in [("1", Some("distfun")), ("off", None), ("true", Some("distfun")), (" mine ", Some("mine"))] {
        let settings = resolve(Overrides::default(), &[("DISTFUN_NAMED_PIPE", value)]).unwrap();
        assert_eq!(settings.named_pipe.name(), name, "{value}");
    }
    for (text, name) in [("named_pipe = true", Some("distfun")), ("named_pipe = 'mine'", Some("mine"))] {
        let settings = Settings::resolve(&Told::default(), [], Some(&file(text)), CPUS).unwrap();
        assert_eq!(settings.named_pipe.name(), name, "{text}");
    }
    assert_eq!(NamedPipe::from(true).machine().unwrap().to_string(), "pipe:distfun");
}

#[cfg(unix)]
#[test]
fn a_pipe_of_another_machine_is_refused_with_the_way_to_go() {
    let told = Overrides { named_pipe: Some(r"\\bob\pipe\distfun".into()), ..Overrides::default() };
    let expected = ".named_pipe(): named pipes of other machines exist on Windows only; use TCP: .machines([\"bob\"])";
    assert_eq!(resolve(told, &[]).unwrap_err().to_string(), expected);
}

#[test]
fn variables_that_are_no_settings_are_passed_over() {
    let environment =
        [("DISTFUN_CONFIG", "a"), ("DISTFUN_COOKIE", "b"), ("DISTFUN_CREDENTIALS", "d"), ("DISTFUN_CACHE", "c")];
    let settings = resolve(Overrides::default(), &environment).unwrap();
    assert!(settings.held().iter().all(|held| held.origin == Origin::Default));
}

#[test]
fn what_the_file_says_holds_and_a_second_limit_in_it_is_refused() {
    let all = "slots = 3\nmax_gpu = 2\ngpu_policy = 'mixed'\nsoftware_gpu = true\nendaftercall = false\nverbose = true\nseed = 7\nmax_calls = 9\npriority = 'high'
machines = ['bob']\nport = 2719\nnamed_pipe = 'mine'\nisolation = 'process'\nitem_timeout = '1.5s'\nmax_memory = '3MiB'";
    let settings = Settings::resolve(&Told::default(), [], Some(&file(all)), CPUS).unwrap();
    assert_eq!((settings.slots, settings.endaftercall, settings.verbose), (3, false, true));
    assert_eq!((settings.seed, settings.max_calls, settings.priority), (7, 9, Priority::High));
    assert_eq!(settings.file.as_deref(), Some(Path::new("/etc/distfun.toml")));
    let said: Vec<_> = settings.held().into_iter().map(|held| (held.value, held.said)).collect();
    let values = [
        "3", "2", "mixed", "true", "false", "true", "7", "9", "high", "bob", "2719", "mine", "process", "1.5s",
        "3145728",
    ];
    let keys = [
        "slots",
        "max_gpu",
        "gpu_policy",
        "software_gpu",
        "endaftercall",
        "verbose",
        "seed",
        "max_calls",
        "priority",
        "machines",
        "port",
        "named_pipe",
        "isolation",
        "item_timeout",
        "max_memory",
    ];
    let expected = keys.map(|key| format!("{key} in /etc/distfun.toml"));
    assert_eq!(said, values.map(str::to_owned).into_iter().zip(expected).collect::<Vec<_>>());

    let error = Settings::resolve(&Told::default(), [], Some(&file("slots = 3\nmax_cpu = 2")), CPUS).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("both max_cpu (2) and slots (3) are given by /etc/distfun.toml; keep max_cpu"), "{text}");
}

#[test]
fn a_source_must_be_right_even_where_a_stronger_one_decides() {
    let builder = Overrides { slots: Some(1), ..Overrides::default() };
    for (environment, text) in [
        (vec![("DISTFUN_SLOTS", "two")], ""),
        (vec![("DISTFUN_SLOTS", "2"), ("DISTFUN_MAX_CPU", "2")], ""),
        (vec![], "slots = 'two'"),
        (vec![], "slots = 2\nmax_cpu = 2"),
    ] {
        let settings = Settings::resolve(&told(builder.clone()), variables(&environment), Some(&file(text)), CPUS);
        assert!(settings.is_err(), "{environment:?} {text:?}");
    }
}

const SAMPLE: &str = include_str!("../../../docs/distfun.toml");

#[test]
fn the_sample_file_has_every_setting_and_its_default() {
    let resolve = |text: &str| Settings::resolve(&Told::default(), [], Some(&file(text)), CPUS);
    let defaults = Settings::resolve(&Told::default(), [], None, CPUS).unwrap().held();
    let values = |held: Vec<Held>| held.into_iter().map(|held| (held.key, held.value)).collect::<Vec<_>>();
    assert_eq!(values(resolve(SAMPLE).unwrap().held()), values(defaults.clone()), "all of it is commented out");

    let lines: Vec<&str> = SAMPLE.lines().filter_map(|line| line.strip_prefix("# ")).collect();
    let lines: Vec<&str> = lines.into_iter().filter(|line| line.contains(" = ")).collect();
    let keys: Vec<&str> = lines.iter().map(|line| line.split(" = ").next().unwrap()).collect();
    assert_eq!(keys, table::SETTINGS.each_ref().map(|setting| setting.key), "left, the sample; right, what there is");
    for (line, key) in lines.into_iter().zip(keys) {
        let settings = resolve(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(settings.held().iter().any(|held| held.origin == Origin::File), "{line}");
        if !["max_cpu", "slots", "max_gpu"].contains(&key) {
            assert_eq!(values(settings.held()), values(defaults.clone()), "{line}");
        }
    }
}

#[test]
fn the_readme_has_the_variable_of_every_setting_and_an_example_of_a_file_that_holds() {
    let readme = include_str!("../../../README.md");
    for setting in &table::SETTINGS {
        let (method, variable) = (format!("| `.{}(", setting.key), environment::variable(setting.key));
        let row = readme.lines().find(|line| line.starts_with(&method)).unwrap_or_else(|| panic!("no {method}"));
        assert!(row.contains(&format!("`{variable}`")), "{row}");
    }
    let example = readme.split("```toml\n# distfun.toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let settings = Settings::resolve(&Told::default(), [], Some(&file(example.expect("an example"))), CPUS).unwrap();
    assert!(settings.held().iter().filter(|held| held.origin == Origin::File).count() >= 2);
}

/// What a source may say: at most one of the two limits.
fn anything() -> impl Strategy<Value = Overrides> {
    let limit = option::of((any::<bool>(), 1..20usize));
    let flags = (option::of(any::<bool>()), option::of(any::<bool>()));
    let numbers = (option::of(any::<u64>()), option::of(1..usize::MAX));
    let priority = option::of(prop::sample::select(vec![Priority::Low, Priority::Normal, Priority::High]));
    let machines = option::of(prop::collection::btree_set("[a-z]{1,3}", 0..3));
    let pipe = option::of(prop_oneof![any::<bool>().prop_map(NamedPipe::from), "m[a-z]{2}".prop_map(NamedPipe::from)]);
    let nodes = (machines, option::of(1..=u16::MAX), pipe);
    // On threads there is no limit for items, which the check of all sources together would refuse here.
    let isolation = option::of(prop::sample::select(vec![Isolation::Thread, Isolation::Process]));
    // The most GPUs are a contradiction where there may be none.
    let gpus = option::of((prop::sample::select(GpuPolicy::ALL[1..].to_vec()), option::of(0..9usize), any::<bool>()));
    (limit, flags, numbers, priority, nodes, isolation, gpus).prop_map(
        |(
            limit,
            (endaftercall, verbose),
            (seed, max_calls),
            priority,
            (machines, port, named_pipe),
            isolation,
            gpus,
        )| {
            let (gpu_policy, max_gpu) = (gpus.map(|gpus| gpus.0), gpus.and_then(|gpus| gpus.1));
            let software_gpu = gpus.map(|gpus| gpus.2);
            let of = |exact| limit.filter(|limit| limit.0 == exact).map(|limit| limit.1);
            let machines = machines.map(Vec::from_iter);
            let (max_cpu, slots) = (of(false), of(true));
            let (item_timeout, max_memory) = (None, None);
            Overrides {
                max_cpu,
                slots,
                max_gpu,
                gpu_policy,
                software_gpu,
                endaftercall,
                verbose,
                seed,
                max_calls,
                priority,
                machines,
                port,
                named_pipe,
                isolation,
                item_timeout,
                max_memory,
            }
        },
    )
}

/// The same in words, each with its key.
fn words(said: &Overrides) -> Vec<(&'static str, String)> {
    let Overrides {
        max_cpu,
        slots,
        max_gpu,
        gpu_policy,
        software_gpu,
        endaftercall,
        verbose,
        seed,
        max_calls,
        priority,
        machines,
        port,
        named_pipe,
        isolation,
        item_timeout,
        max_memory,
    } = said;
    let all = [
        ("max_cpu", max_cpu.map(|count| count.to_string())),
        ("slots", slots.map(|count| count.to_string())),
        ("max_gpu", max_gpu.map(|count| count.to_string())),
        ("gpu_policy", gpu_policy.map(|policy| policy.to_string())),
        ("software_gpu", software_gpu.map(|yes| yes.to_string())),
        ("endaftercall", endaftercall.map(|yes| yes.to_string())),
        ("verbose", verbose.map(|yes| yes.to_string())),
        ("seed", seed.map(|seed| seed.to_string())),
        ("max_calls", max_calls.map(|count| count.to_string())),
        ("priority", priority.map(|priority| format!("{priority:?}").to_lowercase())),
        ("machines", machines.as_ref().map(|machines| machines.join(" "))),
        ("port", port.map(|port| port.to_string())),
        ("named_pipe", named_pipe.as_ref().map(ToString::to_string)),
        ("isolation", isolation.map(|isolation| isolation.to_string())),
        ("item_timeout", item_timeout.map(|limit| format!("{limit:?}"))),
        ("max_memory", max_memory.map(|bytes| bytes.to_string())),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

proptest! {
    #[test]
    fn of_any_sources_the_strongest_that_says_something_holds(
        builder in anything(), flags in anything(), environment in anything(), in_file in anything(),
    ) {
        let in_variables: Vec<_> = words(&environment).into_iter()
            .map(|(key, value)| (format!("DISTFUN_{}", key.to_uppercase()), value)).collect();
        let text: String = words(&in_file).into_iter()
            .map(|(key, value)| if ["priority", "machines", "named_pipe", "isolation", "gpu_policy"].contains(&key) { format!("{key} = \"{value}\"\n") } else { format!("{key} = {value}\n") })
            .collect();
        let sources = [
            (Origin::Builder, words(&builder)),
            (Origin::Flag, words(&flags)),
            (Origin::Environment, words(&environment)),
            (Origin::File, words(&in_file)),
        ];
        let told = Told { builder, flags };
        let settings = Settings::resolve(&told, variables(&in_variables), Some(&file(&text)), CPUS).unwrap();
        let defaults =
            [("slots", "8"), ("max_gpu", "all"), ("gpu_policy", "no_gpu"), ("software_gpu", "false"), ("endaftercall", "true"), ("verbose", "false"), ("seed", "0"), ("max_calls", "10000"), ("priority", "normal"), ("machines", "none"), ("port", "2718"), ("named_pipe", "false"), ("isolation", "thread"), ("item_timeout", "none"), ("max_memory", "none")];
        let held = settings.held();
        prop_assert_eq!(held.len(), defaults.len());
        for (held, (key, default)) in held.iter().zip(defaults) {
            prop_assert_eq!(held.key, key);
            let is_it = |name: &str| name == key || key == "slots" && name == "max_cpu";
            let said = sources.iter().find_map(|(origin, words)| {
                words.iter().find(|(name, _)| is_it(name)).map(|(name, value)| (*origin, *name, value.as_str()))
            });
            let (origin, name, value) = said.unwrap_or((Origin::Default, key, default));
            let value = match name {
                "max_cpu" => value.parse::<usize>().unwrap().min(8).to_string(),
                "machines" if value.is_empty() => "none".into(),
                _ => value.to_owned(),
            };
            prop_assert_eq!((&held.value, held.origin), (&value, origin));
            let place = match origin {
                Origin::Builder => format!(".{name}()"),
                Origin::Flag => format!("--{}", name.replace('_', "-")),
                Origin::Environment => format!("DISTFUN_{}", name.to_uppercase()),
                Origin::File => format!("{name} in /etc/distfun.toml"),
                Origin::Default => "default".into(),
            };
            prop_assert_eq!(&held.said, &place);
        }
        // What is shown is what holds.
        let shown: Vec<String> = held.into_iter().map(|held| held.value).collect();
        let Settings { slots, max_gpu, gpu_policy, software_gpu, endaftercall, verbose, seed, max_calls, priority, machines, port, named_pipe, isolation, item_timeout, max_memory, .. } = settings;
        let max_gpu = if max_gpu == usize::MAX { "all".into() } else { max_gpu.to_string() };
        let fields = format!("{slots} {max_gpu} {gpu_policy} {software_gpu} {endaftercall} {verbose} {seed} {max_calls} {priority:?} {machines} {port} {named_pipe} {isolation} {} {}", item_timeout.map_or("none".into(), |it| format!("{it:?}")), max_memory.map_or("none".into(), |it| it.to_string()))
            .to_lowercase();
        prop_assert_eq!(shown.join(" "), fields);
    }
}
