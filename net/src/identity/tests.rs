use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    sync::Barrier,
    thread,
};

use super::{secret::quoted, *};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn written(text: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
    let directory = directory();
    let path = directory.path().join("cookie");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    (directory, path)
}

fn refusal(path: &Path) -> String {
    Cookie::load_or_create(path).unwrap_err().to_string()
}

#[test]
fn a_cookie_is_made_once_and_only_its_owner_may_read_it() {
    let directory = directory();
    let path = directory.path().join("state/distfun/cookie");
    let cookie = Cookie::load_or_create(&path).unwrap();
    assert_eq!(Cookie::load_or_create(&path).unwrap(), cookie);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["cookie"], "nothing else is left");
}

/// Killed between its first byte and its name, a process leaves a file that the next one removes.
#[test]
fn what_killed_processes_left_is_removed() {
    let directory = directory();
    let [old, new, other] = [".distfun-abc", ".distfun-def", "precious"].map(|name| directory.path().join(name));
    for path in [&old, &new, &other] {
        fs::write(path, "half").unwrap();
    }
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(120);
    for path in [&old, &other] {
        fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    Cookie::load_or_create(&directory.path().join("cookie")).unwrap();
    assert!(!old.exists() && new.exists() && other.exists());
}

#[test]
fn all_who_start_at_once_agree() {
    for _ in 0..20 {
        let directory = directory();
        let path = directory.path().join("distfun/cookie");
        let start = Barrier::new(20);
        let cookies: Vec<_> = thread::scope(|scope| {
            let make = || {
                start.wait();
                Cookie::load_or_create(&path).unwrap()
            };
            let threads: Vec<_> = (0..20).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(cookies.iter().all(|cookie| cookie == &cookies[0]));
    }
}

#[test]
fn a_cookie_that_others_may_use_is_refused_with_the_command_that_mends_it() {
    for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
        let (_directory, path) = written(text(&[7; 32]).as_bytes(), mode);
        let said = refusal(&path);
        assert!(said.contains(&format!("mode {mode:04o}")), "{said}");
        assert!(said.contains(&format!("chmod 600 {}", path.display())), "{said}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Cookie::load_or_create(&path).unwrap(), Cookie::from_bytes([7; 32]));
    }
}

#[test]
fn a_cookie_of_another_user_is_refused() {
    // Only root can give a file away; for others, a file of root's will do.
    let (_directory, path) = if rustix::process::geteuid().is_root() {
        let (directory, path) = written(text(&[7; 32]).as_bytes(), 0o600);
        std::os::unix::fs::chown(&path, Some(4242), None).unwrap();
        (Some(directory), path)
    } else {
        (None, PathBuf::from("/etc/passwd"))
    };
    let said = refusal(&path);
    assert!(said.contains("belongs to user") && said.contains("chown"), "{said}");
}

#[test]
fn links_directories_and_pipes_are_no_cookies() {
    let (directory, path) = written(text(&[7; 32]).as_bytes(), 0o600);
    let link = directory.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(refusal(&link).contains("symbolic link"));
    let dangling = directory.path().join("dangling");
    symlink(directory.path().join("nothing"), &dangling).unwrap();
    assert!(refusal(&dangling).contains("symbolic link"));
    assert!(!directory.path().join("nothing").exists());
    assert!(refusal(directory.path()).contains("not a file"));
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(refusal(&pipe).contains("not a file"));
}

#[test]
fn only_sixty_four_digits_are_a_cookie() {
    let digits = "ab".repeat(32);
    for good in [digits.clone(), digits.to_uppercase() + "\n", digits.clone() + "\r\n"] {
        let (_directory, path) = written(good.as_bytes(), 0o600);
        assert_eq!(Cookie::load_or_create(&path).unwrap(), Cookie::from_bytes([0xab; 32]), "{good:?}");
    }
    let bad = ["", "\n", &digits[1..], &(digits.clone() + "0"), &(digits.clone() + "\n\n"), &digits.replace('a', "x")];
    for bad in bad.into_iter().chain([&"+1".repeat(32)[..], &digits.repeat(1000), &" ".repeat(64)]) {
        let (_directory, path) = written(bad.as_bytes(), 0o600);
        let said = refusal(&path);
        assert!(said.contains("64 hexadecimal digits") && said.contains("`rm "), "{said}");
        assert_eq!(fs::read(&path).unwrap(), bad.as_bytes(), "it is left as it is");
    }
}

#[test]
fn a_cookie_shows_nothing_of_itself() {
    let cookie = Cookie::from_bytes([0xab; 32]);
    assert_eq!(format!("{cookie:?} {cookie:#?}"), "Cookie(..) Cookie(..)");
    assert_ne!(Cookie::random().unwrap(), Cookie::random().unwrap());
}

#[test]
fn the_path_follows_the_environment() {
    let path = |pairs: &[(&str, &str)]| {
        let pairs: HashMap<_, _> = pairs.iter().copied().collect();
        path_from(|name| pairs.get(name).map(OsString::from)).display().to_string()
    };
    let all = [("DISTFUN_COOKIE", "c/k"), ("XDG_STATE_HOME", "/state"), ("HOME", "/home/me")];
    assert_eq!(path(&all), "c/k");
    assert_eq!(path(&all[1..]), "/state/distfun/cookie");
    assert_eq!(path(&all[2..]), "/home/me/.local/state/distfun/cookie");
    assert_eq!(path(&[("DISTFUN_COOKIE", ""), ("XDG_STATE_HOME", "state"), all[2]]), path(&all[2..]));
    let homeless = format!("/tmp/distfun-{}/cookie", rustix::process::geteuid().as_raw());
    assert_eq!(path(&[]), homeless);
    assert_eq!(path(&[("HOME", "")]), homeless);
    let home = |name: &str| (name == "HOME").then(|| "/home/me".into());
    assert_eq!(credentials_from(home), Path::new("/home/me/.local/state/distfun/credentials"));
    assert_eq!(credentials_from(|name: &str| (name == CREDENTIALS_VARIABLE).then(|| "here".into())), Path::new("here"));
}

#[test]
fn a_directory_in_tmp_must_be_ours_alone() {
    let directory = directory();
    let ours = directory.path().join("distfun-0");
    assert!(platform::check_directory(&ours).is_ok(), "it can be made");
    platform::create_directory(&ours).unwrap();
    assert!(platform::check_directory(&ours).is_ok());
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o770)).unwrap();
    let said = platform::check_directory(&ours).unwrap_err().to_string();
    assert!(said.contains("alone") && said.contains("rm -r"), "{said}");
    let link = directory.path().join("link");
    symlink("/root", &link).unwrap();
    assert!(platform::check_directory(&link).is_err());
}

#[test]
fn commands_in_errors_can_be_pasted() {
    assert_eq!(quoted(Path::new("/home/me/a.b-c")), "/home/me/a.b-c");
    assert_eq!(quoted(Path::new("/my home/it's")), r"'/my home/it'\''s'");
}
