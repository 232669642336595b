//! A result that can be written and not read again, as whoever sent the items would have to.
use distfun::prelude::*;

#[derive(serde::Serialize)]
struct Length(f64);

fn length(x: f64) -> Length {
    Length(x)
}

fn main() -> Result<(), distfun::Error> {
    distribute!(length).build()?.map([3.0]).wait()?;
    Ok(())
}
