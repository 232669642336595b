//! See `distfun_fuzz::view`.

#![cfg_attr(fuzzing, no_main)]

distfun_fuzz::target!(view);
