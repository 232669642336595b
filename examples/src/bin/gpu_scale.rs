//! Multiplies a vector by a factor per item, on every GPU there is: the kernel is written here and compiled at run time.
//! Without a GPU it computes on the CPUs, as the policy `PreferGpu` says.
//!
//! ```sh
//! cargo run --release -p distfun-examples --features wgpu --bin gpu_scale
//! cargo run --release -p distfun-examples --features cuda --bin gpu_scale
//! DISTFUN_SOFTWARE_GPU=1 cargo run --release -p distfun-examples --features wgpu --bin gpu_scale   # no GPU at hand
//! ```

use distfun::{
    GpuPolicy, Settings, SharedData,
    gpu::{self, GpuError},
    prelude::*,
};
use ndarray::{Array1, ArrayView1};

/// In WGSL, for wgpu.
#[cfg(feature = "wgpu")]
const WGSL: &str = "
@group(0) @binding(0) var<storage, read> vector: array<f32>;
@group(0) @binding(1) var<storage, read> factor: array<f32>;
@group(0) @binding(2) var<storage, read_write> scaled: array<f32>;

@compute @workgroup_size(256)
fn scale(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&vector) {
        scaled[id.x] = factor[0] * vector[id.x];
    }
}";

/// In CUDA C++.
#[cfg(feature = "cuda")]
const CUDA: &str = r#"
extern "C" __global__ void scale(const float *vector, float factor, float *scaled, size_t n) {
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i < n) scaled[i] = factor * vector[i];
}"#;

/// What every form does.
fn scale(factor: f32, shared: &SharedData) -> Result<Vec<f32>, GpuError> {
    let vector: ArrayView1<f32> = shared.array("vector")?;
    Ok(vector.iter().map(|x| factor * x).collect())
}

/// The same on the GPU of the slot, where the vector is uploaded once.
fn scale_on_gpu(factor: f32, context: &Context) -> Result<Vec<f32>, GpuError> {
    match context.device() {
        #[cfg(feature = "cuda")]
        Device::Gpu(gpu) if gpu.info().apis.cuda.is_some() => scale_by_cuda(factor, context.shared(), gpu.cuda()?),
        #[cfg(feature = "wgpu")]
        Device::Gpu(gpu) => scale_by_wgpu(factor, context.shared(), gpu.wgpu()?),
        _ => scale(factor, context.shared()),
    }
}

#[cfg(feature = "wgpu")]
fn scale_by_wgpu(factor: f32, shared: &SharedData, gpu: &distfun::gpu::Wgpu) -> Result<Vec<f32>, GpuError> {
    let kernel = gpu.kernel(WGSL, "scale")?;
    let vector = gpu.shared::<f32>(shared, "vector")?;
    let count = vector.count();
    let (factor, scaled) = (gpu.upload(&[factor])?, gpu.blank::<f32>(count)?);
    gpu.run(&kernel, &[&vector, &factor, &scaled], [count.div_ceil(256) as u32, 1, 1])?;
    gpu.download(&scaled)
}

#[cfg(feature = "cuda")]
fn scale_by_cuda(factor: f32, shared: &SharedData, gpu: &distfun::gpu::Cuda) -> Result<Vec<f32>, GpuError> {
    use distfun::gpu::cudarc::driver::{LaunchConfig, PushKernelArg};

    let kernel = gpu.kernel(CUDA, "scale")?;
    let vector = gpu.shared::<f32>(shared, "vector")?;
    let count = vector.len();
    let mut scaled = gpu.checked(size_of_val(&*vector) as u64, gpu.stream().alloc_zeros::<f32>(count))?;
    let mut launch = gpu.stream().launch_builder(&kernel);
    launch.arg(&*vector).arg(&factor).arg(&mut scaled).arg(&count);
    // SAFETY: the kernel reads and writes the first `count` elements of its two buffers, which have as many.
    #[allow(unsafe_code, reason = "nobody checks what a kernel of CUDA's touches")]
    gpu.checked(0, unsafe { launch.launch(LaunchConfig::for_num_elems(count as u32)) })?;
    gpu.download(&scaled)
}

/// The GPUs of this machine that count, or why the CPUs compute.
fn say_who_computes(settings: &Settings) {
    let mut gpus = gpu::all(settings.software_gpu);
    gpus.truncate(settings.max_gpu);
    for gpu in &gpus {
        println!("GPU {gpu}, {}", gpu.kind);
    }
    if gpus.is_empty() {
        println!("the CPUs compute: {}", settings.why_no_gpu(|| gpu::why_none(settings.software_gpu)));
    }
}

fn main() -> Result<(), distfun::Error> {
    distfun::init();
    let vector = Array1::from_iter((0..60_000u16).map(f32::from));
    let shared = SharedData::builder().array("vector", &vector)?.build()?;
    let factors: Vec<f32> = (0..32u8).map(f32::from).collect();

    let builder = distribute!(scale).gpu(function!(scale_on_gpu)).gpu_policy(GpuPolicy::PreferGpu).shared_data(shared);
    say_who_computes(&builder.settings().map_err(distfun::BuildError::from)?);
    let scaled = builder.build()?.try_map(factors.clone()).wait()?;

    for (factor, scaled) in factors.iter().zip(&scaled) {
        assert!(scaled.iter().zip(&vector).all(|(y, x)| *y == factor * x));
    }
    println!("{} vectors of {} elements, scaled", scaled.len(), vector.len());
    Ok(())
}
