//! A function of an unsized argument.
use distfun::prelude::*;

fn shout(text: &str) -> String {
    text.to_uppercase()
}

fn main() -> Result<(), distfun::Error> {
    let loud = distribute!(shout).build()?.map(["a", "b"]).wait()?;
    distribute!(|list: &[f64]| list.len()).build()?;
    assert_eq!(loud, ["A", "B"]);
    Ok(())
}
