//! A function that is computed.
use distfun::prelude::*;

fn choose() -> fn(f64) -> f64 {
    f64::sqrt
}

fn main() -> Result<(), distfun::Error> {
    distribute!(choose()).build()?.map([4.0]).wait()?;
    Ok(())
}
