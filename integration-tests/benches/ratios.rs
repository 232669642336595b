//! Ratios to the baselines: pairs taken in turn, A B B A, so that a machine whose speed drifts does both alike; the
//! median with its 95 % interval (order statistics).
//!
//! `cargo bench -p distfun-benches --bench ratios [NAME...]`; with `--quick`, a few pairs only, to see that it runs.

mod cases;

use std::time::Duration;

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}

fn main() -> std::process::ExitCode {
    cases::peer::with_peers(ratios)
}

fn ratios() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let quick = arguments.iter().any(|argument| argument == "--quick" || argument == "--test");
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    println!("{:<56} {:>10} {:>10}  {:>6} {:>15}  {:>5}", "", "distfun", "baseline", "ratio", "95 % interval", "owed");
    for (name, make) in cases::all() {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name == *wanted) {
            continue;
        }
        let mut case = make();
        let pairs = if quick { 3 } else { case.pairs };
        let warm_up = 2;
        let (mut ours, mut theirs, mut ratios) = (vec![], vec![], vec![]);
        for pair in 0..pairs + warm_up {
            let (a, b) = if pair % 2 == 0 {
                let a = (case.ours)();
                (a, (case.baseline)())
            } else {
                let b = (case.baseline)();
                ((case.ours)(), b)
            };
            if pair >= warm_up {
                ours.push(a.as_secs_f64());
                theirs.push(b.as_secs_f64());
                ratios.push(a.as_secs_f64() / b.as_secs_f64());
            }
        }
        for values in [&mut ours, &mut theirs, &mut ratios] {
            values.sort_by(f64::total_cmp);
        }
        // 1.96 standard deviations of the binomial around the middle rank.
        let half_width = (0.98 * (ratios.len() as f64).sqrt()).ceil() as usize;
        let middle = ratios.len() / 2;
        let low = ratios[middle.saturating_sub(half_width)];
        let high = ratios[(middle + half_width).min(ratios.len() - 1)];
        println!(
            "{:<56} {:>10} {:>10}  {:>6.3} {:>7.3}-{:<7.3}  {:>5.2}",
            case.name,
            format!("{:.1?}", Duration::from_secs_f64(median(&ours))),
            format!("{:.1?}", Duration::from_secs_f64(median(&theirs))),
            median(&ratios),
            low,
            high,
            case.owe
        );
        if let Some(note) = &case.note {
            println!("  {}", note());
        }
    }
}
