//! The settings file, and which source of settings holds: each test is a process of its own, in a folder of its own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use distfun::{BuildError, Ending, Manager, Origin, Overrides, Settings, SettingsError, StartError, distribute_local};
use futures::executor::block_on;
use tempfile::TempDir;

use crate::support::alone_as;

/// Runs `body` in a process and an empty folder of its own, with these variables and no others of distfun.
fn in_folder_with(variables: &[(&str, &str)], body: impl FnOnce()) {
    let prepare = |child: &mut Command| {
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DISTFUN_")) {
            child.env_remove(name);
        }
        let folder = TempDir::new().unwrap();
        child.current_dir(&folder).envs(variables.iter().copied());
        folder
    };
    alone_as(prepare, body);
}

fn in_folder(body: impl FnOnce()) {
    in_folder_with(&[], body);
}

fn write(bytes: impl AsRef<[u8]>) {
    fs::write("distfun.toml", bytes).unwrap();
}

fn settings() -> Result<Settings, SettingsError> {
    distribute_local(|x: u32| x).settings()
}

/// How many slots a distributed function and a Manager have, who read the same settings.
fn slots() -> usize {
    let dfun = distribute_local(|x: u32| x + 1).build().unwrap();
    assert_eq!(dfun.map([1, 2]).wait().unwrap(), [2, 3]);
    let manager = Manager::builder().start().unwrap();
    assert_eq!(block_on(manager.send(distfun::Status)).unwrap().slots.len(), dfun.slots());
    dfun.slots()
}

/// The text with which both refuse their settings.
#[track_caller]
fn refusal() -> String {
    let BuildError::Settings(error) = distribute_local(|x: u32| x).build().unwrap_err() else { panic!() };
    let StartError::Settings(of_manager) = Manager::builder().start().unwrap_err() else { panic!() };
    assert_eq!(error, of_manager);
    error.to_string()
}

fn here() -> PathBuf {
    env::current_dir().unwrap()
}

#[test]
fn the_file_in_the_current_directory_holds_and_is_looked_for_at_every_build() {
    in_folder(|| {
        let all = settings().unwrap().slots;
        write("slots = 3\nendaftercall = false\npriority = \"low\"");
        assert_eq!(slots(), 3);
        let dfun = distribute_local(|x: u32| x).build().unwrap();
        (0..2).for_each(|round| assert_eq!(dfun.map([round]).wait().unwrap(), [round]));
        let held = settings().unwrap();
        assert_eq!(
            (held.priority, held.file.as_deref()),
            (distfun::Priority::Low, Some(&*here().join("distfun.toml")))
        );
        write("slots = 5");
        assert_eq!(slots(), 5);
        fs::create_dir("below").unwrap();
        env::set_current_dir("below").unwrap();
        assert_eq!(slots(), all, "no folder above is looked into");
        write("slots = 2");
        assert_eq!(slots(), 2);
        fs::remove_file("distfun.toml").unwrap();
        assert_eq!((slots(), settings().unwrap().file), (all, None));
    });
}

#[test]
fn builder_flags_environment_and_file_go_in_this_order() {
    in_folder_with(&[("DISTFUN_SLOTS", "3"), ("DISTFUN_SEED", "3"), ("DISTFUN_MAX_CALLS", "3")], || {
        write("max_cpu = 1\nseed = 4\nmax_calls = 4\nendaftercall = false");
        let flags = Overrides { slots: Some(2), seed: Some(2), ..Overrides::default() };
        let builder = distribute_local(|x: u32| x).slots(1).flags(flags.clone());
        let settings = builder.settings().unwrap();
        assert_eq!((settings.slots, settings.seed, settings.max_calls), (1, 2, 3));
        assert!(!settings.endaftercall && !settings.verbose);
        let held: Vec<_> = settings.held().into_iter().map(|held| (held.key, held.origin, held.said)).collect();
        let in_file = format!("endaftercall in {}", here().join("distfun.toml").display());
        assert_eq!(
            held,
            [
                ("slots", Origin::Builder, ".slots()".to_owned()),
                ("max_gpu", Origin::Default, "default".to_owned()),
                ("gpu_policy", Origin::Default, "default".to_owned()),
                ("software_gpu", Origin::Default, "default".to_owned()),
                ("endaftercall", Origin::File, in_file),
                ("verbose", Origin::Default, "default".to_owned()),
                ("seed", Origin::Flag, "--seed".to_owned()),
                ("max_calls", Origin::Environment, "DISTFUN_MAX_CALLS".to_owned()),
                ("priority", Origin::Default, "default".to_owned()),
                ("machines", Origin::Default, "default".to_owned()),
                ("port", Origin::Default, "default".to_owned()),
                ("named_pipe", Origin::Default, "default".to_owned()),
                ("isolation", Origin::Default, "default".to_owned()),
                ("item_timeout", Origin::Default, "default".to_owned()),
                ("max_memory", Origin::Default, "default".to_owned()),
            ]
        );
        let dfun = builder.build().unwrap();
        assert_eq!(dfun.slots(), 1);
        (0..2).for_each(|round| assert_eq!(dfun.map([round]).wait().unwrap(), [round]));
        let manager = Manager::builder().flags(flags).settings().unwrap();
        assert_eq!((manager.slots, manager.seed, manager.max_calls), (2, 2, 3));
        assert_eq!(slots(), 3);
        let once = distribute_local(|x: u32| x).endaftercall(true).build().unwrap();
        once.map([1]).wait().unwrap();
        assert_eq!(once.map([1]).wait().unwrap_err().ending(), Ending::EndedAfterCall);
    });
}

#[test]
fn a_file_that_the_environment_names_takes_the_place_of_the_one_here() {
    in_folder_with(&[("DISTFUN_CONFIG", "below/other.toml")], || {
        write("slots = 2");
        fs::create_dir("below").unwrap();
        assert_eq!(refusal(), "DISTFUN_CONFIG names \"below/other.toml\", which does not exist; correct or unset it");
        fs::write("below/other.toml", "slots = 3").unwrap();
        assert_eq!(slots(), 3);
        fs::write("below/other.toml", "slots = 0").unwrap();
        assert!(refusal().starts_with(&format!("{}:1:9: slots = 0 is", here().join("below/other.toml").display())));
        fs::write("below/other.toml", "").unwrap();
        assert_ne!(settings().unwrap().held()[0].origin, Origin::File, "the one here is not read");
    });
}

#[test]
fn the_environment_can_name_no_file_but_not_nothing() {
    in_folder_with(&[("DISTFUN_CONFIG", "/dev/null")], || {
        write("slots = two");
        assert_eq!(settings().unwrap().file, None);
    });
}

#[test]
fn an_empty_name_of_a_file_is_refused() {
    in_folder_with(&[("DISTFUN_CONFIG", "")], || {
        assert_eq!(refusal(), "DISTFUN_CONFIG names \"\", which does not exist; correct or unset it");
    });
}

#[test]
fn a_file_may_be_empty_start_with_a_byte_order_mark_and_have_the_line_ends_of_windows() {
    in_folder(|| {
        write("");
        assert_eq!(settings().unwrap().file, Some(here().join("distfun.toml").into()));
        write("\u{feff}# by hand\r\nslots = 3\r\n");
        assert_eq!(slots(), 3);
    });
}

#[test]
fn every_fault_in_a_file_is_refused_with_its_place_and_what_must_be_there() {
    in_folder(|| {
        let file = here().join("distfun.toml").display().to_string();
        for (bytes, expected) in [
            (
                &b"slots = 2\nseed ="[..],
                ":2:7: string values must be quoted, expected literal string, in `seed =`; seed must be a whole number, 0 or more",
            ),
            (b"slots = 2\nslots = 2", ":2:1: duplicate key, in `slots = 2`"),
            (b"# caf\xe9", ":1:6: byte 5 of the file (0xe9) is not UTF-8; save it as UTF-8"),
            (b"max_cpus = 2", ":1:1: max_cpus is not a setting of distfun; did you mean max_cpu?"),
            (
                b"colour = 2",
                ":1:1: colour is not a setting of distfun; known are max_cpu, slots, max_gpu, gpu_policy, software_gpu, endaftercall, verbose, seed, max_calls, priority, machines, port, named_pipe, isolation, item_timeout, max_memory",
            ),
            (b"max_cpu = \"two\"", ":1:11: max_cpu = \"two\" is not a whole number, 0 or more"),
            (b"seed = -1", ":1:8: seed = -1 is not a whole number, 0 or more"),
            (b"[slots]\nnode = 1", ":1:1: slots is a table, which is not a whole number from 0 to 4096"),
        ] {
            write(bytes);
            assert_eq!(refusal(), format!("{file}{expected}"));
        }
        write("slots = 2\nmax_cpu = 1");
        assert!(refusal().starts_with(&format!("both max_cpu (1) and slots (2) are given by {file}; keep max_cpu")));
    });
}

#[test]
fn a_file_that_is_too_large_is_refused_and_one_that_just_is_not_takes_no_time() {
    in_folder(|| {
        let mut bytes = b"slots = 3\n".to_vec();
        bytes.resize(1 << 20, b'#');
        write(&bytes);
        let start = Instant::now();
        assert_eq!(settings().unwrap().slots, 3);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        bytes.push(b'#');
        write(&bytes);
        let expected =
            "is larger than 1048576 bytes, which is no file of settings; name the right one in DISTFUN_CONFIG";
        assert_eq!(refusal(), format!("{} {expected}", here().join("distfun.toml").display()));
    });
}

#[test]
fn a_directory_in_place_of_the_file_is_refused() {
    in_folder(|| {
        fs::create_dir("distfun.toml").unwrap();
        let expected = "is not a file, so it can't hold settings; name a file in DISTFUN_CONFIG, or rename this";
        assert_eq!(refusal(), format!("{} {expected}", here().join("distfun.toml").display()));
    });
}

#[cfg(unix)]
#[test]
fn a_link_is_followed_and_one_that_leads_nowhere_is_refused() {
    in_folder(|| {
        std::os::unix::fs::symlink("elsewhere.toml", "distfun.toml").unwrap();
        let refused = refusal();
        assert!(refused.contains("distfun.toml can't be read: No such file"), "{refused}");
        fs::write("elsewhere.toml", "slots = 3").unwrap();
        assert_eq!(slots(), 3);
    });
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_the_file_is_refused_instead_of_waited_for() {
    in_folder(|| {
        assert!(Command::new("mkfifo").arg("distfun.toml").status().unwrap().success());
        let refused = refusal();
        assert!(refused.contains("distfun.toml is not a file"), "{refused}");
    });
}

/// As `in_folder`, without the rights of root, to whom no file is closed.
#[cfg(unix)]
fn in_folder_without_rights(body: impl FnOnce()) {
    use std::os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    };
    const NOBODY: u32 = 65534;
    let prepare = |child: &mut Command| {
        let folder = TempDir::new().unwrap();
        child.current_dir(&folder);
        if fs::metadata(&folder).unwrap().uid() == 0 {
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
            child.uid(NOBODY).gid(NOBODY);
        }
        folder
    };
    alone_as(prepare, body);
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_is_refused_but_a_folder_that_may_not_be_looked_into_has_none() {
    use std::os::unix::fs::PermissionsExt;
    in_folder_without_rights(|| {
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let (folder, file) = (here(), here().join("distfun.toml"));
        write("slots = 3");
        set(&file, 0);
        let refused = refusal();
        let expected = "can't be read: Permission denied (os error 13); make it readable, or name another file in";
        assert!(refused.starts_with(&format!("{} {expected}", file.display())), "{refused}");
        set(&file, 0o600);
        assert_eq!(slots(), 3);
        // A service whose user may not look into the directory it was started in must start all the same.
        set(&folder, 0);
        let held = settings();
        set(&folder, 0o700);
        assert_eq!(held.unwrap().file, None);
    });
}
