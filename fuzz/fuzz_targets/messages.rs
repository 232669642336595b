//! See `distfun_fuzz::messages`.

#![cfg_attr(fuzzing, no_main)]

distfun_fuzz::target!(messages);
