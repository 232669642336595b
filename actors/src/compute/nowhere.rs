//! In the place of `hosted.rs` on systems where functions can't run in processes of their own.

use distfun_core::engine::Chunk;

use super::port::Port;
use crate::{
    job::{Progress, SharedJob},
    pool::Pool,
};

/// There is none.
pub(crate) enum Hosted {}

/// It does not happen.
pub(crate) struct Fallen;

impl Hosted {
    /// None: `build()` has refused everything else.
    pub(crate) fn of(_: &Pool, _: &Port) -> Result<Option<Self>, String> {
        Ok(None)
    }

    pub(crate) fn story(&self) -> Option<&str> {
        match *self {}
    }

    pub(crate) fn run(&mut self, _: &SharedJob, _: &Chunk<SharedJob>, _: &mut Progress) -> Result<(), Fallen> {
        match *self {}
    }
}
