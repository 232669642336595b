//! A function over the columns of a matrix in two forms, one for CPUs and one for GPUs: the logarithm of the sum of
//! exponentials of each column, without overflow. The results of the two differ by no more than one part in 100 000.
//! Without a GPU everything is computed on CPUs, as the policy `PreferGpu` says.
//!
//! ```sh
//! cargo run --release -p distfun-examples --features wgpu --bin gpu_columns
//! cargo run --release -p distfun-examples --features cuda --bin gpu_columns -- 200000
//! DISTFUN_SOFTWARE_GPU=1 cargo run --release -p distfun-examples --features wgpu --bin gpu_columns   # no GPU at hand
//! ```

use std::{process::ExitCode, time::Instant};

use distfun::{GpuPolicy, gpu::GpuError, prelude::*};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, ShapeBuilder};

/// Rows of the matrix.
const ROWS: usize = 64;

/// How far results of GPUs may be from those of CPUs, as a part of them.
const TOLERANCE: f32 = 1e-5;

/// In WGSL: one invocation for each column of a matrix that lies column by column.
#[cfg(feature = "wgpu")]
const WGSL: &str = "
@group(0) @binding(0) var<storage, read> rows: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn log_sum_exp(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= arrayLength(&y) { return; }
    let first = id.x * rows[0];
    var largest = x[first];
    for (var row = 1u; row < rows[0]; row++) { largest = max(largest, x[first + row]); }
    var sum = 0.0;
    for (var row = 0u; row < rows[0]; row++) { sum += exp(x[first + row] - largest); }
    y[id.x] = largest + log(sum);
}";

/// The same in CUDA C++.
#[cfg(feature = "cuda")]
const CUDA: &str = r#"
extern "C" __global__ void log_sum_exp(const float *x, unsigned rows, float *y, size_t columns) {
    size_t column = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (column >= columns) return;
    const float *first = x + column * rows;
    float largest = first[0], sum = 0.0f;
    for (unsigned row = 1; row < rows; row++) largest = fmaxf(largest, first[row]);
    for (unsigned row = 0; row < rows; row++) sum += expf(first[row] - largest);
    y[column] = largest + logf(sum);
}"#;

/// For one column.
fn of_column(column: ArrayView1<f32>) -> f32 {
    let largest = column.fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    largest + column.fold(0.0, |sum, x| sum + (x - largest).exp()).ln()
}

/// `x`: rows x columns; one value for each column.
fn log_sum_exp(x: ArrayView2<f32>) -> Array1<f32> {
    x.map_axis(Axis(0), of_column)
}

/// The same on the GPU of the slot. A column function returns no `Result`: what it panics with is the failure of its columns.
fn log_sum_exp_on_gpu(x: ArrayView2<f32>, context: &Context) -> Array1<f32> {
    let result = match context.device() {
        #[cfg(feature = "cuda")]
        Device::Gpu(gpu) if gpu.info().apis.cuda.is_some() => gpu.cuda().and_then(|gpu| by_cuda(x, gpu)),
        #[cfg(feature = "wgpu")]
        Device::Gpu(gpu) => gpu.wgpu().and_then(|gpu| by_wgpu(x, gpu)),
        _ => Ok::<_, GpuError>(log_sum_exp(x)),
    };
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// The elements column by column: as they are, if they lie so, else gathered.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn by_columns<'x>(x: &'x ArrayView2<f32>) -> std::borrow::Cow<'x, [f32]> {
    match x.t().to_slice() {
        Some(elements) => elements.into(),
        None => x.t().iter().copied().collect::<Vec<_>>().into(),
    }
}

#[cfg(feature = "wgpu")]
fn by_wgpu(x: ArrayView2<f32>, gpu: &distfun::gpu::Wgpu) -> Result<Array1<f32>, GpuError> {
    let kernel = gpu.kernel(WGSL, "log_sum_exp")?;
    let (rows, elements, y) =
        (gpu.upload(&[x.nrows() as u32])?, gpu.upload(&by_columns(&x))?, gpu.blank::<f32>(x.ncols())?);
    gpu.run(&kernel, &[&rows, &elements, &y], [x.ncols().div_ceil(256) as u32, 1, 1])?;
    Ok(gpu.download(&y)?.into())
}

#[cfg(feature = "cuda")]
fn by_cuda(x: ArrayView2<f32>, gpu: &distfun::gpu::Cuda) -> Result<Array1<f32>, GpuError> {
    use distfun::gpu::cudarc::driver::{LaunchConfig, PushKernelArg};

    let kernel = gpu.kernel(CUDA, "log_sum_exp")?;
    let (rows, columns) = (x.nrows() as u32, x.ncols());
    let elements = gpu.upload(&by_columns(&x))?;
    let mut y = gpu.checked(4 * columns as u64, gpu.stream().alloc_zeros::<f32>(columns))?;
    let mut launch = gpu.stream().launch_builder(&kernel);
    launch.arg(&elements).arg(&rows).arg(&mut y).arg(&columns);
    // SAFETY: the kernel reads `rows` elements for each of its `columns`, and writes one: as many as the buffers have.
    #[allow(unsafe_code, reason = "nobody checks what a kernel of CUDA's touches")]
    gpu.checked(0, unsafe { launch.launch(LaunchConfig::for_num_elems(columns as u32)) })?;
    Ok(gpu.download(&y)?.into())
}

fn main() -> ExitCode {
    distfun::init();
    let columns: usize = match std::env::args().nth(1).map(|argument| argument.parse()) {
        None => 100_000,
        Some(Ok(columns)) if columns > 0 => columns,
        Some(_) => {
            eprintln!("usage: gpu_columns [COLUMNS]");
            return ExitCode::FAILURE;
        }
    };
    match run(columns) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(columns: usize) -> Result<(), distfun::Error> {
    let value = |(row, column): (usize, usize)| ((row * 31 + column * 17) % 1000) as f32 / 10.0;
    let x = Array2::from_shape_fn((ROWS, columns).f(), value);
    let since = Instant::now();
    let expected = log_sum_exp(x.view());
    println!("{ROWS} x {columns} matrix; in a plain loop {:.1?}", since.elapsed());

    let dfun = distribute!(log_sum_exp).gpu(function!(log_sum_exp_on_gpu));
    let dfun = dfun.gpu_policy(GpuPolicy::PreferGpu).endaftercall(false).build()?;
    dfun.columns(&x.slice(ndarray::s![.., ..1])).wait()?; // opens the device and compiles the kernel
    let since = Instant::now();
    let y = dfun.columns(&x).wait()?;
    println!("distributed {:.1?}", since.elapsed());

    let off = |(y, expected): (&f32, &f32)| (y - expected).abs() / expected.abs();
    let worst = y.iter().zip(&expected).map(off).fold(0.0, f32::max);
    assert!(worst <= TOLERANCE, "off by {worst:e}");
    println!("equal to one part in {:.0}", 1.0 / TOLERANCE);
    Ok(())
}
