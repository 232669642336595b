//! See `distfun_fuzz::machines`.

#![cfg_attr(fuzzing, no_main)]

distfun_fuzz::target!(machines);
