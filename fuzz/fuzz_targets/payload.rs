//! See `distfun_fuzz::payload`.

#![cfg_attr(fuzzing, no_main)]

distfun_fuzz::target!(payload);
