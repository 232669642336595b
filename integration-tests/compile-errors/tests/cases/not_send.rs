//! Items and results that may not cross threads.
use distfun::prelude::*;
use std::rc::Rc;

fn main() -> Result<(), distfun::Error> {
    distribute_local(|x: Rc<u32>| *x).build()?.map([Rc::new(1)]).wait()?;
    distribute_local(|x: u32| Rc::new(x)).build()?.map([1]).wait()?;
    Ok(())
}
