//! See `distfun_fuzz::npy`.

#![cfg_attr(fuzzing, no_main)]

distfun_fuzz::target!(npy);
