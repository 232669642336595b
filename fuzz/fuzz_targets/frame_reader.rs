//! See `distfun_fuzz::frame_reader`.

#![cfg_attr(fuzzing, no_main)]

distfun_fuzz::target!(frame_reader);
