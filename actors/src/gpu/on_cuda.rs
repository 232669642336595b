//! GPUs of NVIDIA's through CUDA. An island of `unsafe`: its driver is a library that is loaded where it is there.
#![allow(unsafe_code)]

use std::{
    any::Any,
    fmt,
    rc::Rc,
    sync::{Arc, OnceLock},
};

use cudarc::{
    driver::{
        CudaContext, CudaEvent, CudaFunction, CudaSlice, CudaStream, DeviceRepr, DriverError,
        result::{self, device},
        sys::{CUdevice_attribute as Attribute, cudaError_enum as Code, is_culib_present},
    },
    nvrtc::{self, CompileError, CompileOptions, compile_ptx_with_opts},
};
use distfun_core::{
    gpu::{Found, GpuApis, GpuKind},
    shared_data::{Element, SharedData},
};

use super::{
    GpuError,
    kept::{Kernels, Uploads, array},
};
use crate::compute::catch::catch;

/// Number of the vendor on the PCI bus.
const NVIDIA: u32 = 0x10de;

/// All that the driver shows, if it is there. It obeys `CUDA_VISIBLE_DEVICES` itself.
pub(super) fn find() -> Vec<Found> {
    // SAFETY: it loads a library by its well-known name, as every program that uses CUDA does, and asks nothing of it.
    if !unsafe { is_culib_present() } {
        return Vec::new();
    }
    // A library that lacks a function, as a driver of another age may, is told by a panic.
    let all = catch(|| {
        result::init().ok()?;
        let count = device::get_count().ok()?;
        Some((0..count).filter_map(|ordinal| one(ordinal).ok()).collect())
    });
    all.ok().flatten().unwrap_or_default()
}

/// The driver's library, if it is not there.
pub(super) fn missing() -> Option<&'static str> {
    let name = if cfg!(windows) { "nvcuda.dll (NVIDIA's driver)" } else { "libcuda.so.1 (NVIDIA's driver)" };
    // SAFETY: as in `find`.
    Some(name).filter(|_| !unsafe { is_culib_present() })
}

fn one(ordinal: i32) -> Result<Found, DriverError> {
    let device = device::get(ordinal)?;
    // SAFETY: the device was given by `get`, here and below.
    let attribute = |attribute| unsafe { device::get_attribute(device, attribute) };
    let memory_bytes = unsafe { device::total_mem(device) }? as u64;
    let (domain, bus, slot) = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)?,
    );
    let is_integrated = attribute(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)? != 0;
    Ok(Found {
        uuid: device::get_uuid(device).ok().map(|uuid| uuid_text(uuid.bytes.map(|byte| byte as u8))),
        pci: Some(format!("{domain:04x}:{bus:02x}:{slot:02x}.0")),
        vendor: NVIDIA,
        name: device::get_name(device)?,
        memory_bytes,
        kind: if is_integrated { GpuKind::Integrated } else { GpuKind::Discrete },
        apis: GpuApis { cuda: Some(ordinal as u32), wgpu: None },
    })
}

/// As `nvidia-smi -L` writes it.
fn uuid_text(bytes: [u8; 16]) -> String {
    let mut text = String::from("GPU-");
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A GPU through CUDA, from [`UseGpu::cuda`](super::UseGpu::cuda): its context, which is current on this thread, and a stream
/// of the slot's own to do anything with, by the crate [`cudarc`]; and what most functions need besides.
///
/// Types of your own are uploaded if they are [`DeviceRepr`], which is an `unsafe` promise that they lie in memory as the kernel
/// has them. What you ask of context and stream yourself is looked at only if it goes through [`checked`](Self::checked).
///
/// A launch is `unsafe`, as nobody checks what a kernel writes:
///
/// ```no_run
/// use distfun::{GpuPolicy, gpu::{GpuError, cudarc::driver::{LaunchConfig, PushKernelArg}}, prelude::*};
///
/// const TWICE: &str = r#"
///     extern "C" __global__ void twice(float *x, size_t n) {
///         size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
///         if (i < n) x[i] = 2.0f * x[i];
///     }"#;
///
/// fn twice(x: &Vec<f32>, context: &Context) -> Result<Vec<f32>, GpuError> {
///     let Device::Gpu(gpu) = context.device() else { return Ok(x.iter().map(|x| 2.0 * x).collect()) };
///     let gpu = gpu.cuda()?;
///     let kernel = gpu.kernel(TWICE, "twice")?;
///     let mut buffer = gpu.upload(x)?;
///     let (count, shape) = (x.len(), LaunchConfig::for_num_elems(x.len() as u32));
///     // SAFETY: the kernel writes to the first `count` elements of `buffer`, which has as many.
///     gpu.checked(0, unsafe { gpu.stream().launch_builder(&kernel).arg(&mut buffer).arg(&count).launch(shape) })?;
///     gpu.download(&buffer)
/// }
///
/// let twice = distribute!(twice).gpu_policy(GpuPolicy::PreferGpu).build()?;
/// assert_eq!(twice.try_map([vec![1.0, 2.0], vec![3.0]]).wait()?, [vec![2.0, 4.0], vec![6.0]]);
/// # Ok::<(), distfun::Error>(())
/// ```
pub struct Cuda {
    /// The GPU, for errors.
    name: String,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// Recorded to see whether the context still works.
    probe: CudaEvent,
    kernels: Kernels<CudaFunction>,
    shared: Uploads<Rc<dyn Any>>,
    lost: OnceLock<String>,
}

impl Cuda {
    pub(super) fn open(ordinal: u32, name: String) -> Result<Self, String> {
        // SAFETY: as in `find`.
        if !unsafe { is_culib_present() } {
            return Err("its driver is not there any more".into());
        }
        let open = || {
            let context = CudaContext::new(ordinal as usize)?;
            let (stream, probe) = (context.new_stream()?, context.new_event(None)?);
            let (kernels, shared, lost) = Default::default();
            Ok(Self { name, context, stream, probe, kernels, shared, lost })
        };
        // As in `find`.
        match catch(open) {
            Ok(opened) => opened.map_err(|error: DriverError| error.to_string()),
            Err(panic) => Err(panic.to_string()),
        }
    }

    /// Why it can't be used any more, if it can't.
    pub(super) fn lost(&self) -> Option<String> {
        // An error that spoils the context is told by whatever is asked of it next.
        if let Some(error) = self.probe.record(&self.stream).err().or_else(|| self.context.check_err().err()) {
            self.note(error);
        }
        self.lost.get().cloned()
    }

    fn note(&self, error: DriverError) {
        if spoils(error.0) {
            let _ = self.lost.set(format!("the device is lost: {error}"));
        }
    }

    /// The context: the device's primary one.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// A stream of the slot's own.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// The kernel with this name, compiled by NVRTC for this device the first time that it is asked for.
    ///
    /// # Errors
    /// [`GpuError::Kernel`] with what the compiler says, or that it is not installed.
    pub fn kernel(&self, source: &str, name: &str) -> Result<CudaFunction, GpuError> {
        self.kernels.get(source, name, || {
            let wrong = |message: String| GpuError::Kernel { name: name.into(), message };
            let (major, minor) = self.checked(0, self.context.compute_capability())?;
            let image = compile(source, Some(format!("--gpu-architecture=compute_{major}{minor}"))).map_err(wrong)?;
            let loaded = self.context.load_module(image).and_then(|module| module.load_function(name));
            loaded.map_err(|error: DriverError| wrong(error.to_string()))
        })
    }

    /// A buffer with these elements. There may be none; but CUDA refuses to launch a kernel on a grid of none.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`].
    pub fn upload<T: DeviceRepr>(&self, elements: &[T]) -> Result<CudaSlice<T>, GpuError> {
        if elements.is_empty() {
            // CUDA does not give out no bytes.
            // SAFETY: nobody reads what the element is: the buffer has none.
            let one = self.checked(size_of::<T>() as u64, unsafe { self.stream.alloc::<T>(1) })?;
            // SAFETY: the memory was allocated for this stream, and is given up by nobody else.
            return Ok(unsafe { self.stream.upgrade_device_ptr(one.leak(), 0) });
        }
        self.checked(size_of_val(elements) as u64, self.stream.clone_htod(elements))
    }

    /// All elements of a buffer, once what was started before on the stream is done.
    ///
    /// # Errors
    /// [`GpuError::Refused`].
    ///
    /// # Panics
    /// If the device is lost meanwhile; that ends the slot's life, and the item is redone.
    pub fn download<T: DeviceRepr>(&self, buffer: &CudaSlice<T>) -> Result<Vec<T>, GpuError> {
        if buffer.is_empty() {
            self.checked(0, self.stream.synchronize())?;
            return Ok(Vec::new());
        }
        let elements = self.checked(0, self.stream.clone_dtoh(buffer))?;
        self.checked(0, self.stream.synchronize())?;
        Ok(elements)
    }

    /// The array of the shared data under `key`, on the device: uploaded the first time that the device is asked for it, in
    /// the memory order it has.
    ///
    /// # Errors
    /// [`GpuError::SharedData`]: there is no such array; [`GpuError::WrongElement`]; those of [`upload`](Self::upload).
    pub fn shared<T>(&self, shared: &SharedData, key: &str) -> Result<Rc<CudaSlice<T>>, GpuError>
    where
        T: Element + DeviceRepr,
    {
        let array = array::<T>(shared, key)?;
        let elements = array.as_slice_memory_order().expect("shared arrays lie in one piece");
        let buffer = self.shared.get(shared, key, || Ok(Rc::new(self.upload(elements)?) as Rc<dyn Any>))?;
        Ok(buffer.downcast().expect("an array has elements of one type"))
    }

    /// What the driver has answered, with its errors as those here; `bytes` were asked for.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`], [`GpuError::Refused`].
    ///
    /// # Panics
    /// If the device is lost; that ends the slot's life, and the item is redone.
    pub fn checked<T>(&self, bytes: u64, answer: Result<T, DriverError>) -> Result<T, GpuError> {
        answer.map_err(|error| {
            self.note(error);
            let told = match error.0 {
                Code::CUDA_ERROR_OUT_OF_MEMORY => {
                    GpuError::OutOfMemory { gpu: self.name.clone(), bytes, message: error.to_string() }
                }
                _ => GpuError::Refused { message: error.to_string() },
            };
            if self.lost.get().is_some() { super::give_up(told) } else { told }
        })
    }
}

/// Compiles a kernel to PTX, by NVRTC.
fn compile(source: &str, architecture: Option<String>) -> Result<nvrtc::Ptx, String> {
    // SAFETY: as in `find`.
    if !unsafe { nvrtc::sys::is_culib_present() } {
        return Err("the compiler is not installed: NVRTC (libnvrtc.so), a part of the CUDA toolkit".into());
    }
    if source.contains('\0') {
        return Err("its source has a zero byte in it".into());
    }
    let options = CompileOptions { options: architecture.into_iter().collect(), ..CompileOptions::default() };
    compile_ptx_with_opts(source, options).map_err(|error| match error {
        CompileError::CompileError { log, .. } => log.to_string_lossy().trim().to_owned(),
        other => other.to_string(),
    })
}

/// Errors after which a context answers nothing else any more.
fn spoils(code: Code) -> bool {
    matches!(
        code,
        Code::CUDA_ERROR_DEINITIALIZED
            | Code::CUDA_ERROR_DEVICE_UNAVAILABLE
            | Code::CUDA_ERROR_NO_DEVICE
            | Code::CUDA_ERROR_ECC_UNCORRECTABLE
            | Code::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | Code::CUDA_ERROR_ILLEGAL_ADDRESS
            | Code::CUDA_ERROR_LAUNCH_TIMEOUT
            | Code::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | Code::CUDA_ERROR_ASSERT
            | Code::CUDA_ERROR_HARDWARE_STACK_ERROR
            | Code::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | Code::CUDA_ERROR_MISALIGNED_ADDRESS
            | Code::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | Code::CUDA_ERROR_INVALID_PC
            | Code::CUDA_ERROR_LAUNCH_FAILED
            | Code::CUDA_ERROR_EXTERNAL_DEVICE
            | Code::CUDA_ERROR_MPS_RPC_FAILURE
            | Code::CUDA_ERROR_MPS_CLIENT_TERMINATED
            | Code::CUDA_ERROR_UNKNOWN
    )
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cuda").field("kernels", &self.kernels.count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_as_the_tools_of_the_driver_do() {
        let bytes: [u8; 16] = std::array::from_fn(|at| at as u8 * 17);
        assert_eq!(uuid_text(bytes), "GPU-00112233-4455-6677-8899-aabbccddeeff");
    }

    /// Compiles where NVRTC is installed: no GPU is needed for that. Says whether it is.
    fn compiles(source: &str) -> bool {
        match compile(source, None) {
            Ok(image) => assert!(image.to_src().contains(".entry "), "no entry"),
            Err(why) if why.contains("not installed") && std::env::var_os("NVRTC_MUST_BE_THERE").is_none() => {
                return false;
            }
            Err(why) => panic!("{why}"),
        }
        true
    }

    #[test]
    fn a_kernel_compiles_without_a_gpu_and_a_fault_is_told_in_the_words_of_the_compiler() {
        if compiles("extern \"C\" __global__ void f(float *x) { x[0] = 1.0f; }") {
            let why = compile("extern \"C\" __global__ void f(float *x) { y[0] = 1.0f; }", None).unwrap_err();
            assert!(why.contains("\"y\" is undefined"), "{why}");
        }
    }

    #[test]
    fn a_machine_without_the_driver_has_no_gpu_for_cuda() {
        // SAFETY: as in `find`.
        if !unsafe { is_culib_present() } {
            assert!(find().is_empty());
            assert!(Cuda::open(0, "0: a card".into()).unwrap_err().contains("not there"));
        }
    }
}
