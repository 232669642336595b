//! A function of this machine is asked to run on others.
use distfun::prelude::*;

fn main() -> Result<(), distfun::Error> {
    let factor = 3;
    let tripled = distribute_local(move |x: i32| factor * x).machines(["bob"]);
    assert_eq!(tripled.build()?.map([1]).wait()?, [3]);
    Ok(())
}
