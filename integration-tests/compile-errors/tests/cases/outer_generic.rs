//! A function that depends on a type parameter of the function around it.
use distfun::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

fn total<T>(lists: Vec<Vec<T>>) -> Result<Vec<T>, distfun::Error>
where
    T: std::iter::Sum + Serialize + DeserializeOwned + Send + 'static,
{
    Ok(distribute!(|list: Vec<T>| list.into_iter().sum::<T>()).build()?.map(lists).wait()?)
}

fn main() {
    total(vec![vec![1.0, 2.0]]).unwrap();
}
