//! Values that do nothing, or not what was meant, when they are dropped.
#![deny(unused_must_use)]

use distfun::{Distribute, prelude::*};

fn root(x: f64) -> f64 {
    x.sqrt()
}

fn main() -> Result<(), distfun::Error> {
    distribute!(root);
    distribute!(root).max_cpu(2);
    let roots = distribute!(root).build()?;
    roots.map([4.0]);
    roots.map(&[4.0]);
    roots.map_into([4.0], &mut Vec::new());
    roots.map([4.0]).wait();
    Distribute::map(function!(root), [4.0]);
    Ok(())
}
