//! See `distfun_fuzz::shared_image`.

#![cfg_attr(fuzzing, no_main)]

distfun_fuzz::target!(shared_image);
