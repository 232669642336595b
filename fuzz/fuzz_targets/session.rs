//! See `distfun_fuzz::session`.

#![cfg_attr(fuzzing, no_main)]

distfun_fuzz::target!(session);
