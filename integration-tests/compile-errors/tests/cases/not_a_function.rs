//! No function at all.
use distfun::prelude::*;

fn main() -> Result<(), distfun::Error> {
    distribute!(4.0).build()?.map([1.0]).wait()?;
    Ok(())
}
