//! What a function computes with.

use std::{any::Any, fmt, rc::Rc};

use crate::gpu::GpuInfo;

/// What a function computes with, from [`Context::device`](super::Context::device). There may be other kinds one day: match with
/// `let Device::Gpu(gpu) = context.device() else { … }`, or with an arm `_`.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Device<'c> {
    /// A CPU: the thread it is on.
    Cpu,
    /// A GPU, which nobody else of this Manager uses meanwhile.
    Gpu(&'c Gpu),
}

impl<'c> Device<'c> {
    /// The GPU, if it is one.
    pub fn gpu(self) -> Option<&'c Gpu> {
        match self {
            Self::Cpu => None,
            Self::Gpu(gpu) => Some(gpu),
        }
    }
}

/// The GPU of the slot that runs the function. The trait `UseGpu`, which is in the prelude, opens it: `gpu.cuda()?` with the
/// feature `cuda` of `distfun`, `gpu.wgpu()?` with `wgpu`.
pub struct Gpu {
    info: GpuInfo,
    opened: Box<dyn Opened>,
}

/// A GPU as the one who opened it keeps it. It stays on its slot's thread.
#[doc(hidden)]
pub trait Opened: Any {
    /// That it could be opened.
    fn is_open(&self) -> bool;
    /// That it can't be used any more; then what ran on it when it was lost has no outcome.
    fn lost(&self) -> Option<Lost>;
}

/// How a GPU was lost.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct Lost {
    /// For people.
    pub why: String,
    /// Whether the item may have to do with it: it was there when the item began.
    pub is_begun: bool,
}

impl Gpu {
    /// The GPU of a slot, as somebody has opened it.
    #[doc(hidden)]
    pub fn new(info: GpuInfo, opened: impl Opened) -> Self {
        Self { info, opened: Box::new(opened) }
    }

    /// Which it is.
    pub fn info(&self) -> &GpuInfo {
        &self.info
    }

    /// As whoever opened it knows it.
    #[doc(hidden)]
    pub fn opened<T: Opened>(&self) -> Option<&T> {
        (&*self.opened as &dyn Any).downcast_ref()
    }

    /// That it could be opened, by whoever has asked for it first.
    #[doc(hidden)]
    pub fn is_open(&self) -> bool {
        self.opened.is_open()
    }

    /// That it can't be used any more, if it can't.
    #[doc(hidden)]
    pub fn lost(&self) -> Option<Lost> {
        self.opened.lost()
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gpu").field(&self.info).finish()
    }
}

/// A GPU is lost, and with it what ran there: the payload of the panic that ends the slot's life.
#[doc(hidden)]
#[derive(Debug)]
pub struct DeviceLost;

/// The GPU of a slot, while functions may use it.
#[doc(hidden)]
pub type SlotGpu = Option<Rc<Gpu>>;
