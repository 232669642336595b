//! The logs of a storm: each line of them must be as the published schema says.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::Path,
};

use distfun_integration_tests::line::known;

use crate::around::LOG;

/// Looks at the Manager's log and at those of the nodes in `dir`.
///
/// # Errors
/// A line of them is none of a log: which, and why.
pub(crate) fn check(dir: &Path) -> Result<(), String> {
    let unreadable = |error: io::Error| format!("the logs in {}: {error}", dir.display());
    let (mut lines, torn) = check_log(&dir.join(LOG))?;
    if torn > 0 {
        return Err(format!("{torn} lines of the Manager's log are torn, and nobody has killed it"));
    }
    let mut all_torn = 0;
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let log = entry.map_err(unreadable)?.path().join("events");
        if log.exists() {
            // A node is killed while it writes, and its disk fills up.
            let (more, torn) = check_log(&log)?;
            (lines, all_torn) = (lines + more, all_torn + torn);
        }
    }
    println!("{lines:>12}  lines of logs are as the schema says, {all_torn} were torn");
    Ok(())
}

/// How many lines are whole, and how many are not.
fn check_log(path: &Path) -> Result<(u64, u64), String> {
    let unreadable = |error: io::Error| format!("{}: {error}", path.display());
    let (mut whole, mut torn) = (0, 0);
    for line in BufReader::new(File::open(path).map_err(unreadable)?).split(b'\n') {
        match serde_json::from_slice(&line.map_err(unreadable)?) {
            Ok(parsed) => {
                known(&parsed).map_err(|why| format!("{}: {why}: {parsed:?}", path.display()))?;
                whole += 1;
            }
            Err(_) => torn += 1,
        }
    }
    Ok((whole, torn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_schema_knows_is_found_and_what_is_torn_counts_against_who_was_not_killed() {
        let dir = tempfile::tempdir().unwrap();
        let good = include_str!("../../testdata/incidents/crash.ndjson");
        let (first, _) = good.split_once('\n').unwrap();
        let wrong = first.replace("\"distfun.manager.id\":1", "\"distfun.manager.id\":-1");
        assert_ne!(first, wrong);
        let node = dir.path().join("node-0");
        fs::create_dir(&node).unwrap();
        for (log, of_node, is_well) in [
            (good, first, true),
            (good, &first[..100], true),
            (good, &wrong, false),
            (&wrong, first, false),
            (&good[..good.len() - 100], first, false),
        ] {
            fs::write(dir.path().join(LOG), log).unwrap();
            fs::write(node.join("events"), of_node).unwrap();
            let checked = check(dir.path());
            assert_eq!(checked.is_ok(), is_well, "{checked:?}");
        }
    }
}
