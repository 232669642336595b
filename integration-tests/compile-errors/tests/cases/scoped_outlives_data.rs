//! A call over borrowed input can't leave the scope of its data.
use distfun::prelude::*;

fn root(x: f64) -> f64 {
    x.sqrt()
}

fn main() -> Result<(), distfun::Error> {
    let roots = distribute!(root).build()?;
    let call = {
        let items = vec![4.0, 9.0];
        roots.map(&items)
    };
    call.wait()?;
    Ok(())
}
