//! A function of two arguments.
use distfun::prelude::*;

fn add(a: f64, b: f64) -> f64 {
    a + b
}

fn main() -> Result<(), distfun::Error> {
    distribute!(add).build()?.map([(1.0, 2.0)]).wait()?;
    Ok(())
}
