//! Items and results without serde.
use distfun::prelude::*;

struct Point(f64, f64);
struct Length(f64);

fn length(point: Point) -> f64 {
    point.0.hypot(point.1)
}

fn wrapped(x: f64) -> Length {
    Length(x)
}

fn main() -> Result<(), distfun::Error> {
    distribute!(length).build()?.map([Point(3.0, 4.0)]).wait()?;
    distribute!(wrapped).build()?.map([3.0]).wait()?;
    Ok(())
}
