//! See `distfun_fuzz::schema_difference`.

#![cfg_attr(fuzzing, no_main)]

distfun_fuzz::target!(schema_difference);
