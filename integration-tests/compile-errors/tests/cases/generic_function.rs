//! A generic function without its type arguments.
use distfun::prelude::*;

fn same<T>(x: T) -> T {
    x
}

fn main() -> Result<(), distfun::Error> {
    let items = distribute!(same).build()?.map([1, 2]).wait()?;
    assert_eq!(items, [1, 2]);
    Ok(())
}
