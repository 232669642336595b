//! A closure that uses a variable from around it.
use distfun::prelude::*;

fn main() -> Result<(), distfun::Error> {
    let factor = 3;
    let tripled = distribute!(|x: i32| factor * x).build()?.map([1, 2]).wait()?;
    assert_eq!(tripled, [3, 6]);
    Ok(())
}
