//! `accept_lists` for a function that takes no list, and `try_map` for one that can't fail.
use distfun::prelude::*;

fn root(x: f64) -> f64 {
    x.sqrt()
}

fn main() -> Result<(), distfun::Error> {
    distribute!(root).accept_lists().build()?.map([4.0]).wait()?;
    distribute!(root).build()?.try_map([4.0]).wait()?;
    Ok(())
}
