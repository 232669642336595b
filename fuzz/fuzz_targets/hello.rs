//! See `distfun_fuzz::hello`.

#![cfg_attr(fuzzing, no_main)]

distfun_fuzz::target!(hello);
