//! A call over borrowed input can't be awaited.
use distfun::prelude::*;

fn root(x: f64) -> f64 {
    x.sqrt()
}

async fn roots(items: Vec<f64>) -> Result<Vec<f64>, distfun::Error> {
    Ok(distribute!(root).build()?.map(&items).await?)
}

fn main() {
    let _ = roots(vec![4.0]);
}
