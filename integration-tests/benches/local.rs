//! Criterion's view of the same cases: each beside its baseline, to follow one of them over time.
//!
//! `cargo bench -p distfun-benches --features criterion --bench local [NAME]`

mod cases;

use std::time::Duration;

use criterion::{Criterion, criterion_group};

fn local(criterion: &mut Criterion) {
    for (name, make) in cases::all() {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10).measurement_time(Duration::from_secs(5));
        let mut case = make();
        group.bench_function("distfun", |bench| bench.iter_custom(|n| (0..n).map(|_| (case.ours)()).sum()));
        group.bench_function("baseline", |bench| bench.iter_custom(|n| (0..n).map(|_| (case.baseline)()).sum()));
        group.finish();
    }
}

criterion_group!(benches, local);

fn main() -> std::process::ExitCode {
    cases::peer::with_peers(|| {
        benches();
        Criterion::default().configure_from_args().final_summary();
    })
}
