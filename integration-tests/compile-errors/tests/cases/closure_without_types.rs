//! A closure whose argument has no written type.
use distfun::prelude::*;

fn main() -> Result<(), distfun::Error> {
    let squares = distribute!(|x| x * x).build()?.map([1, 2]).wait()?;
    assert_eq!(squares, [1, 4]);
    Ok(())
}
