//! Names of local sockets.

/// Longest path of a Unix domain socket, without the zero that ends it.
const MAX_PATH_BYTES: usize = if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };

/// Longest plain name: what a file may be called, and a named pipe of Windows.
const MAX_NAME_BYTES: usize = 240;

/// Why something can't name a local socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LocalNameError {
    #[error("the name of a local socket is missing; leave it out, or name it as in \"distfun\"")]
    Empty,
    #[error("named pipes of other machines exist on Windows only; use TCP: .machines([{server:?}])")]
    Remote { server: String },
    #[error("{name:?} can't name a local socket, since {found:?} is in it; use a plain file name{}", other_form(*.is_windows))]
    Character { name: String, found: char, is_windows: bool },
    #[error("{name:?} names a folder; use a plain file name{}", other_form(*.is_windows))]
    Folder { name: String, is_windows: bool },
    #[error("{name:?} has {len} bytes, and {most} is the most for a local socket; use a shorter one")]
    Long { name: String, len: usize, most: usize },
}

fn other_form(is_windows: bool) -> &'static str {
    if is_windows { r" or \\server\pipe\name" } else { " or a path from the root" }
}

/// That `name` is a plain file name, or on Unix a path from the root, or on Windows a pipe of another machine.
pub(crate) fn check(name: &str, is_windows: bool) -> Result<(), LocalNameError> {
    if name.is_empty() {
        return Err(LocalNameError::Empty);
    }
    let plain = match remote(name) {
        Some((_, pipe)) if is_windows => pipe,
        Some((server, _)) => return Err(LocalNameError::Remote { server: server.into() }),
        None => name,
    };
    let is_path = !is_windows && plain.starts_with('/');
    let most = if is_path { MAX_PATH_BYTES } else { MAX_NAME_BYTES };
    let shown = || super::error::shortened(name);
    if name.len() > most {
        return Err(LocalNameError::Long { name: shown(), len: name.len(), most });
    }
    // A '*' would be taken for slots, and ':' and what is behind it for a stream of a file.
    let is_wrong = |c: char| c.is_control() || c.is_whitespace() || "\\*:".contains(c) || c == '/' && !is_path;
    if let Some(found) = plain.chars().find(|&c| is_wrong(c)) {
        return Err(LocalNameError::Character { name: shown(), found, is_windows });
    }
    if matches!(plain.rsplit('/').next(), None | Some("" | "." | "..")) {
        return Err(LocalNameError::Folder { name: shown(), is_windows });
    }
    Ok(())
}

/// Server and pipe of `\\server\pipe\name`, however its slashes lie.
fn remote(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(r"\\").or_else(|| name.strip_prefix("//"))?;
    let (server, rest) = rest.split_once(['\\', '/'])?;
    let (folder, pipe) = rest.split_once(['\\', '/'])?;
    (folder.eq_ignore_ascii_case("pipe") && !server.is_empty()).then_some((server, pipe))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_goes_everywhere_and_the_rest_where_its_system_is() {
        for (name, unix, windows) in [
            ("distfun", true, true),
            ("my-pipe.2", true, true),
            ("/run/distfun.sock", true, false),
            (r"\\bob\pipe\distfun", false, true),
            ("run/distfun", false, false),
            ("/run/", false, false),
            ("..", false, false),
            ("", false, false),
            ("a*4", false, false),
            ("a b", false, false),
            ("a\0", false, false),
        ] {
            assert_eq!((check(name, false).is_ok(), check(name, true).is_ok()), (unix, windows), "{name:?}");
        }
    }

    #[test]
    fn a_pipe_of_another_machine_is_refused_on_unix_with_the_way_to_go() {
        for name in [r"\\bob\pipe\distfun", "//bob/pipe/x", r"\\bob\PIPE\x"] {
            assert_eq!(
                check(name, false).unwrap_err().to_string(),
                "named pipes of other machines exist on Windows only; use TCP: .machines([\"bob\"])"
            );
        }
    }

    #[test]
    fn a_path_longer_than_a_socket_may_have_is_refused_with_both_numbers() {
        let path = format!("/{}", "a".repeat(MAX_PATH_BYTES));
        assert!(check(&path[..MAX_PATH_BYTES], false).is_ok());
        let text = check(&path, false).unwrap_err().to_string();
        assert!(text.contains(&format!("has {} bytes, and {MAX_PATH_BYTES} is", path.len())), "{text}");
    }
}
