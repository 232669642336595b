//! A program that runs on machines that never saw it: start a node that knows nothing, then name it in `machines`.
//!
//! In one terminal `cargo run --release -p distfun-cli -- node`, in another
//! `cargo run --release -p distfun-examples --bin shipped -- localhost`. Without machines it runs in processes here, with the
//! same output.

use distfun::{Isolation, prelude::*};

/// Sum of the digits of a number's square; it takes a while.
fn digits(x: u64) -> u32 {
    std::thread::sleep(std::time::Duration::from_millis(1));
    (x * x).to_string().bytes().map(|digit| u32::from(digit - b'0')).sum()
}

fn main() -> Result<(), distfun::Error> {
    distfun::init(); // the first line: on other machines this very program is started, and it takes over there
    let machines: Vec<String> = std::env::args().skip(1).collect();
    let digits = distribute!(digits);
    let digits = match machines.is_empty() {
        true => digits.isolation(Isolation::Process),
        false => digits.max_cpu(0).machines(machines),
    };
    let sums = digits.build()?.map(0..500u64).wait()?;
    let sum: u32 = sums.iter().sum();
    let plain: u32 = (0..500).map(self::digits).sum();
    println!("sum of digits {sum}, in a plain loop {plain}");
    assert_eq!(sum, plain);
    Ok(())
}
