//! GPUs of NVIDIA's through CUDA. Where there is none the tests say so and pass, unless `CUDA_MUST_RUN` is set.
#![allow(unsafe_code, reason = "nobody checks what a kernel of CUDA's touches")]

#[cfg(target_os = "linux")]
mod imagined;

use std::sync::atomic::{AtomicU32, Ordering};

use distfun::{
    FailureCause, GpuPolicy, SharedData,
    gpu::{
        self, Cuda, GpuError,
        cudarc::driver::{LaunchConfig, PushKernelArg},
    },
    prelude::*,
};
use ndarray::array;

distfun::host_tests!();

/// Whether there is a GPU for CUDA.
fn is_there() -> bool {
    let is_there = gpu::all(false).iter().any(|gpu| gpu.apis.cuda.is_some());
    assert!(is_there || std::env::var_os("CUDA_MUST_RUN").is_none(), "there is no GPU for CUDA");
    if !is_there {
        eprintln!("no GPU for CUDA: left out");
    }
    is_there
}

/// No GPU is needed to compile for one, only NVRTC.
#[test]
fn the_kernels_of_examples_and_docs_compile() {
    use distfun::gpu::cudarc::nvrtc;

    // SAFETY: it loads a library by its well-known name, as every program does that compiles kernels.
    if !unsafe { nvrtc::sys::is_culib_present() } {
        assert!(std::env::var_os("NVRTC_MUST_BE_THERE").is_none(), "NVRTC is not installed");
        return eprintln!("no NVRTC: left out");
    }
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    for file in ["examples/src/bin/gpu_scale.rs", "examples/src/bin/gpu_columns.rs", "actors/src/gpu/on_cuda.rs"] {
        let text = std::fs::read_to_string(format!("{root}/{file}")).expect(file).replace("\n///", "\n");
        let kernel = text.split("r#\"").nth(1).and_then(|rest| rest.split("\"#").next()).expect("a kernel");
        let image = nvrtc::compile_ptx(kernel).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(image.to_src().contains(".entry "), "{file}: no entry");
    }
    assert!(nvrtc::compile_ptx("extern \"C\" __global__ void f() { y = 1; }").is_err());
}

/// Multiplies by a factor; or, told so, writes where nothing is.
const SCALE: &str = r#"
extern "C" __global__ void scale(float *x, float factor, size_t n, int astray) {
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (astray) x = (float *)16;
    if (i < n) x[i] = factor * x[i];
}"#;

fn scale(gpu: &Cuda, factor: f32, x: &[f32], astray: bool) -> Result<Vec<f32>, GpuError> {
    let kernel = gpu.kernel(SCALE, "scale")?;
    let (mut buffer, count, astray) = (gpu.upload(x)?, x.len(), i32::from(astray));
    let mut launch = gpu.stream().launch_builder(&kernel);
    launch.arg(&mut buffer).arg(&factor).arg(&count).arg(&astray);
    // SAFETY: the kernel writes to the first `count` elements of the buffer, which has as many; astray, the device stops it.
    gpu.checked(0, unsafe { launch.launch(LaunchConfig::for_num_elems(count as u32)) })?;
    gpu.download(&buffer)
}

macro_rules! on {
    ($function:expr) => {
        distribute!($function).slots(2).gpu_policy(GpuPolicy::GpuOrFail)
    };
}

fn doubled(x: u32, context: &Context) -> Result<Vec<f32>, GpuError> {
    scale(context.device().gpu().expect("a GPU").cuda()?, 2.0, &[x as f32, 1.0], false)
}

fn expected(range: std::ops::Range<u8>) -> Vec<Vec<f32>> {
    range.map(|x| vec![2.0 * f32::from(x), 2.0]).collect()
}

#[test]
fn kernels_run_on_threads_and_in_processes() {
    if !is_there() {
        return;
    }
    assert_eq!(on!(doubled).build().unwrap().try_map(0..50u32).wait().unwrap(), expected(0..50));
    #[cfg(target_os = "linux")]
    {
        let dfun = on!(doubled).isolation(distfun::Isolation::Process).build().unwrap();
        assert_eq!(dfun.try_map(0..50u32).wait().unwrap(), expected(0..50));
    }
}

#[test]
fn each_gpu_is_told_of_with_name_uuid_and_memory() {
    if !is_there() {
        return;
    }
    for gpu in gpu::all(false).iter().filter(|gpu| gpu.apis.cuda.is_some()) {
        println!("{gpu}, {}", gpu.uuid);
        assert!(gpu.uuid.starts_with("GPU-") && !gpu.name.is_empty() && gpu.memory_bytes > 1 << 30, "{gpu:?}");
    }
}

#[test]
fn what_a_device_refuses_is_a_typed_error_and_the_device_goes_on() {
    if !is_there() {
        return;
    }
    fn faulty(x: u32, context: &Context) -> Result<Vec<f32>, GpuError> {
        let gpu = context.device().gpu().expect("a GPU").cuda()?;
        match x {
            1 => gpu.kernel("extern \"C\" __global__ void f() { y = 1; }", "f").map(|_| Vec::new()),
            2 => gpu.kernel(SCALE, "no_such_entry").map(|_| Vec::new()),
            3 => gpu.checked(1 << 50, gpu.stream().alloc_zeros::<u8>(1 << 50)).map(|_| Vec::new()),
            _ => scale(gpu, 2.0, &[x as f32], false),
        }
    }
    let results = on!(faulty).max_gpu(1).build().unwrap().map(0..5u32).wait().unwrap();
    assert!(matches!(&results[0], Ok(values) if values == &[0.0]), "{:?}", results[0]);
    assert!(
        matches!(&results[1], Err(GpuError::Kernel { message, .. }) if message.contains("undefined")),
        "{:?}",
        results[1]
    );
    assert!(matches!(&results[2], Err(GpuError::Kernel { .. })), "{:?}", results[2]);
    assert!(matches!(&results[3], Err(GpuError::OutOfMemory { bytes, .. }) if *bytes == 1 << 50), "{:?}", results[3]);
    assert!(matches!(&results[4], Ok(values) if values == &[8.0]), "{:?}", results[4]);
}

/// In processes of their own, whose contexts nobody else has.
#[test]
#[cfg(target_os = "linux")]
fn an_item_whose_kernel_goes_astray_fails_alone() {
    if !is_there() {
        return;
    }
    fn astray(x: u32, context: &Context) -> Result<Vec<f32>, GpuError> {
        scale(context.device().gpu().expect("a GPU").cuda()?, 2.0, &[x as f32, 1.0], x == 3)
    }
    let dfun = on!(astray).max_gpu(1).isolation(distfun::Isolation::Process).build().unwrap();
    let error = dfun.map(0..8u32).wait().unwrap_err();
    assert!(matches!(error.failed[..], [ref it] if it.index == 3), "{error:?}");
    assert!(matches!(error.failed[0].cause, FailureCause::Poisoned { deaths: 3, .. }), "{error:?}");
    assert!(error.failed[0].cause.to_string().contains("the device is lost"), "{error:?}");
    assert_eq!(error.finished().len(), 7);
}

#[test]
fn shared_data_is_uploaded_once_for_a_device() {
    static UPLOADS: AtomicU32 = AtomicU32::new(0);

    fn look(_: u32, context: &Context) -> Result<Vec<f64>, GpuError> {
        let gpu = context.device().gpu().expect("a GPU").cuda()?;
        let buffer = gpu.shared::<f64>(context.shared(), "w")?;
        let mut before = context.slot_state(|| None);
        if !before.as_ref().is_some_and(|before| std::rc::Rc::ptr_eq(before, &buffer)) {
            UPLOADS.fetch_add(1, Ordering::Relaxed);
        }
        let elements = gpu.download(&buffer)?;
        *before = Some(buffer);
        Ok(elements)
    }
    if !is_there() {
        return;
    }
    let shared = SharedData::builder().array("w", &array![1.0, 2.0, 3.0]).unwrap().build().unwrap();
    let dfun = on!(look).max_gpu(1).shared_data(shared).endaftercall(false).build().unwrap();
    for _ in 0..2 {
        assert!(dfun.try_map(0..10u32).wait().unwrap().iter().all(|its| its == &[1.0, 2.0, 3.0]));
    }
    assert_eq!(UPLOADS.load(Ordering::Relaxed), 1);
}
