//! A node is offered a function itself.
use distfun::node;

fn square(x: f64) -> f64 {
    x * x
}

fn main() -> Result<(), distfun::Error> {
    node::serve(node::config().offer(square))?;
    Ok(())
}
