//! A result that borrows from its item.
use distfun::prelude::*;

fn first(list: &Vec<u32>) -> &u32 {
    &list[0]
}

fn main() -> Result<(), distfun::Error> {
    distribute!(first).build()?.map([vec![1]]).wait()?;
    distribute_local_ref(first).build()?.map([vec![1]]).wait()?;
    Ok(())
}
