//! A closure that captured what may not cross threads.
use distfun::prelude::*;
use std::rc::Rc;

fn main() -> Result<(), distfun::Error> {
    let factor = Rc::new(3);
    distribute_local(move |x: u32| *factor * x).build()?.map([1]).wait()?;
    Ok(())
}
