//! GPUs: which there are, and how a function uses the one that its slot owns.
//!
//! A Worker owns a GPU as it owns a CPU: with [`gpu_policy`](crate::DistributeBuilder::gpu_policy) calls run on workers that
//! have one, and [`Context::device`](crate::Context::device) hands it to the function. Features say through what it can be
//! used: `wgpu` (Vulkan, Metal, DirectX 12) and `cuda`. A build without them finds no GPU, needs no driver, and computes on
//! CPUs. Each is opened when a function first asks for it, stays open as long as its slot, and with it the kernels that were
//! compiled and the shared data that was uploaded: until `endaftercall`, `finished` or `shutdown` free the slot.
//!
//! | what happens | what becomes of it |
//! |---|---|
//! | a kernel does not compile, is bound wrongly, or wants more memory than there is | [`GpuError`], which the function returns or deals with |
//! | the device is lost: its driver reset it, or vanished | what ran on it is redone, elsewhere if that can be; the slot begins anew, with the device opened again |
//! | it is lost again and again | the slot is given up, and the policy is judged anew |
//!
//! Results of GPUs need not be bit-equal to those of CPUs: they may contract `a * b + c` to one rounding, and sum in
//! another order.

mod error;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod kept;
#[cfg(feature = "cuda")]
mod on_cuda;
#[cfg(feature = "wgpu")]
mod on_wgpu;

use std::sync::OnceLock;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use std::{cell::OnceCell, panic::resume_unwind};

#[cfg(any(feature = "cuda", feature = "wgpu"))]
use distfun_core::function::{DeviceLost, Lost, Opened};
use distfun_core::{
    function::Gpu,
    gpu::{Found, Hidden, Lack, VARIABLES, inventory},
};

pub use distfun_core::gpu::{GpuApis, GpuInfo, GpuKind};
pub use error::GpuError;

#[cfg(feature = "cuda")]
pub use ::cudarc;
#[cfg(feature = "wgpu")]
pub use ::wgpu;
#[cfg(feature = "cuda")]
pub use on_cuda::Cuda;
#[cfg(feature = "wgpu")]
pub use on_wgpu::{Bound, Buffer, Kernel, Wgpu};

/// Whether this build can use GPUs at all.
pub(crate) const IS_BUILT_IN: bool = cfg!(any(feature = "cuda", feature = "wgpu"));

/// The GPUs that this process may use, as this build can use them; `software` has those count that compute on CPUs. Looked
/// up once for a process: drivers do not look again either.
pub fn all(software: bool) -> Vec<GpuInfo> {
    static FOUND: OnceLock<(Vec<Found>, Vec<Found>)> = OnceLock::new();
    let (cuda, others) = FOUND.get_or_init(|| (find_cuda(), find_wgpu())).clone();
    inventory(cuda, others, &Hidden::read(&|name| std::env::var(name).ok()), software)
}

/// Why [`all`] shows none, for people, and the remedy if there is one: `its drivers show only llvmpipe, …`.
pub fn why_none(software: bool) -> String {
    let others = if software { Vec::new() } else { all(true) };
    let is_set = |name: &&str| std::env::var_os(name).is_some();
    let lack = Lack {
        is_built_in: IS_BUILT_IN,
        software: others.into_iter().map(|gpu| gpu.name).collect(),
        missing: missing_drivers(),
        hiding: VARIABLES.iter().filter_map(|names| names.iter().copied().find(is_set)).collect(),
    };
    lack.to_string()
}

/// Libraries of drivers that are not there.
fn missing_drivers() -> Vec<String> {
    let missing: [Option<&str>; 2] = [
        #[cfg(feature = "cuda")]
        on_cuda::missing(),
        #[cfg(not(feature = "cuda"))]
        None,
        #[cfg(feature = "wgpu")]
        on_wgpu::missing(),
        #[cfg(not(feature = "wgpu"))]
        None,
    ];
    missing.into_iter().flatten().map(String::from).collect()
}

fn find_cuda() -> Vec<Found> {
    #[cfg(feature = "cuda")]
    return on_cuda::find();
    #[cfg(not(feature = "cuda"))]
    Vec::new()
}

fn find_wgpu() -> Vec<Found> {
    #[cfg(feature = "wgpu")]
    return on_wgpu::find();
    #[cfg(not(feature = "wgpu"))]
    Vec::new()
}

/// The same GPU as this process sees it, which may know it through other interfaces than the one that has chosen it.
#[cfg(target_os = "linux")]
pub(crate) fn same(info: &GpuInfo) -> Option<GpuInfo> {
    let alike = all(true).into_iter().filter(|known| known.uuid == info.uuid);
    // Several of the same name are told apart by nothing else.
    alike.max_by_key(|known| known.ordinal == info.ordinal)
}

/// The GPU of a slot, which is opened when a function asks for it. To be called on the slot's thread.
pub(crate) fn of_slot(info: GpuInfo) -> Gpu {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    return Gpu::new(info.clone(), Handles::new(info));
    #[cfg(not(any(feature = "cuda", feature = "wgpu")))]
    unreachable!("this build finds no GPU such as {info}")
}

/// What of a GPU is open.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
struct Handles {
    info: GpuInfo,
    #[cfg(feature = "cuda")]
    cuda: OnceCell<Cuda>,
    #[cfg(feature = "wgpu")]
    wgpu: OnceCell<Wgpu>,
    /// Why it could not be opened.
    closed: OnceCell<String>,
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl Opened for Handles {
    fn is_open(&self) -> bool {
        [
            #[cfg(feature = "cuda")]
            self.cuda.get().is_some(),
            #[cfg(feature = "wgpu")]
            self.wgpu.get().is_some(),
        ]
        .contains(&true)
    }

    fn lost(&self) -> Option<Lost> {
        if let Some(why) = self.closed.get().cloned() {
            return Some(Lost { why, is_begun: false });
        }
        let open = [
            #[cfg(feature = "cuda")]
            self.cuda.get().and_then(Cuda::lost),
            #[cfg(feature = "wgpu")]
            self.wgpu.get().and_then(Wgpu::lost),
        ];
        open.into_iter().flatten().next().map(|why| Lost { why: format!("{}: {why}", self.info), is_begun: true })
    }
}

#[cfg(any(feature = "cuda", feature = "wgpu"))]
impl Handles {
    fn new(info: GpuInfo) -> Self {
        Self {
            info,
            #[cfg(feature = "cuda")]
            cuda: OnceCell::new(),
            #[cfg(feature = "wgpu")]
            wgpu: OnceCell::new(),
            closed: OnceCell::new(),
        }
    }

    /// What is open already, or is opened now. If it can't be, there is no GPU any more.
    fn open<'g, T>(
        &'g self,
        cell: &'g OnceCell<T>,
        open: impl FnOnce() -> Result<T, String>,
    ) -> Result<&'g T, GpuError> {
        if let Some(open) = cell.get() {
            return Ok(open);
        }
        match open() {
            Ok(opened) => Ok(cell.get_or_init(|| opened)),
            Err(why) => {
                let message = format!("{} can't be opened: {why}", self.info);
                let _ = self.closed.set(message.clone());
                Err(give_up(GpuError::Refused { message }))
            }
        }
    }
}

/// The device is lost: ends the slot's life. Where that is ending already, as a value is dropped, it is an error.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn give_up(error: GpuError) -> GpuError {
    if std::thread::panicking() {
        return error; // a second panic would end the program
    }
    resume_unwind(Box::new(DeviceLost))
}

/// How a function uses a [`Gpu`]; in the prelude. Each method is there with the feature of its name only: without it the
/// compiler finds no such method (E0599).
pub trait UseGpu {
    /// Through CUDA: its context, which is current on this thread, and a stream.
    ///
    /// # Errors
    /// [`GpuError::NoApi`]: CUDA does not know this GPU.
    ///
    /// # Panics
    /// If it can't be opened, or is lost; that ends the slot's life, and the item is redone.
    #[cfg(feature = "cuda")]
    fn cuda(&self) -> Result<&Cuda, GpuError>;

    /// Through wgpu: a device and its queue.
    ///
    /// # Errors
    /// [`GpuError::NoApi`]: no driver for wgpu knows this GPU.
    ///
    /// # Panics
    /// If it can't be opened, or is lost; that ends the slot's life, and the item is redone.
    #[cfg(feature = "wgpu")]
    fn wgpu(&self) -> Result<&Wgpu, GpuError>;
}

impl UseGpu for Gpu {
    #[cfg(feature = "cuda")]
    fn cuda(&self) -> Result<&Cuda, GpuError> {
        let no_api = || GpuError::NoApi { api: "cuda".into(), gpu: self.info().to_string() };
        let ordinal = self.info().apis.cuda.ok_or_else(no_api)?;
        let handles: &Handles = self.opened().ok_or_else(no_api)?;
        handles.open(&handles.cuda, || Cuda::open(ordinal, self.info().to_string()))
    }

    #[cfg(feature = "wgpu")]
    fn wgpu(&self) -> Result<&Wgpu, GpuError> {
        let no_api = || GpuError::NoApi { api: "wgpu".into(), gpu: self.info().to_string() };
        let position = self.info().apis.wgpu.ok_or_else(no_api)?;
        let handles: &Handles = self.opened().ok_or_else(no_api)?;
        handles.open(&handles.wgpu, || Wgpu::open(position, self.info().to_string()))
    }
}
