//! A closure that changes what it captured.
use distfun::prelude::*;

fn main() -> Result<(), distfun::Error> {
    let mut count = 0;
    let counted = move |x: u32| {
        count += 1;
        x
    };
    distribute_local(counted).build()?.map([1]).wait()?;
    Ok(())
}
