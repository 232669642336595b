//! Runs stories by their seeds, or tells one of them again.
fn main() {
    let mut seen = distfun_simulator::Seen::default();
    let start = std::time::Instant::now();
    let (from, to): (u64, u64) = (std::env::args().nth(1).map_or(0, |a| a.parse().unwrap()), std::env::args().nth(2).map_or(2000, |a| a.parse().unwrap()));
    let mut steps = 0;
    for seed in from..to {
        let out = distfun_simulator::simulate(seed, &distfun_simulator::Options { slots: None, readable: to == from + 1 });
        steps += out.steps;
        seen.add(&out.seen);
        print!("{}", out.text);
        if let Some(v) = out.violation { println!("seed {seed}: {v}"); }
    }
    println!("{seen:#?} {steps} steps {:?}", start.elapsed());
}
