//! GPUs through CUDA, against a loop over the same kernels that is written by hand: one stream, buffers made once.
#![allow(unsafe_code, reason = "nobody checks what a kernel of CUDA's touches")]

use std::{sync::Arc, time::Duration};

use distfun::{
    DistributeBuilder, GpuPolicy, SharedData,
    gpu::{
        GpuError,
        cudarc::{
            driver::{
                CudaContext, CudaFunction, CudaSlice, CudaStream, CudaViewMut, DriverError, LaunchConfig, PushKernelArg,
            },
            nvrtc::compile_ptx,
        },
    },
    prelude::*,
};
use ndarray::{Array2, ArrayView2, ShapeBuilder};

use super::{Case, burst, timed};

/// Multiplies by a factor, so often that it takes a while.
const KERNEL: &str = r#"
extern "C" __global__ void work(float *x, size_t n, unsigned rounds) {
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i >= n) return;
    float y = x[i];
    for (unsigned round = 0; round < rounds; round++) y = y * 0.999f + 0.001f;
    x[i] = y;
}"#;

/// Elements of an item.
const ELEMENTS: usize = 4096;

fn on_gpu<K>(builder: DistributeBuilder<K>) -> DistributeBuilder<K> {
    builder.gpu_policy(GpuPolicy::GpuOrFail).max_gpu(1).endaftercall(false)
}

fn launch(
    stream: &Arc<CudaStream>,
    kernel: &CudaFunction,
    x: &mut CudaViewMut<'_, f32>,
    rounds: u32,
) -> Result<(), DriverError> {
    let count = x.len();
    let mut launch = stream.launch_builder(kernel);
    launch.arg(x).arg(&count).arg(&rounds);
    // SAFETY: the kernel reads and writes the first `count` elements of the buffer, which has as many.
    unsafe { launch.launch(LaunchConfig::for_num_elems(count as u32)) }.map(drop)
}

/// Everything that a loop by hand needs.
struct ByHand {
    stream: Arc<CudaStream>,
    kernel: CudaFunction,
    x: CudaSlice<f32>,
}

impl ByHand {
    fn new(count: usize) -> Self {
        let ordinal = distfun::gpu::all(false).iter().find_map(|gpu| gpu.apis.cuda).expect("a GPU for CUDA");
        let context = CudaContext::new(ordinal as usize).expect("a context");
        let stream = context.new_stream().expect("a stream");
        let module = context.load_module(compile_ptx(KERNEL).expect("it compiles")).expect("it loads");
        let kernel = module.load_function("work").expect("its entry");
        let x = stream.alloc_zeros(count).expect("memory");
        Self { stream, kernel, x }
    }

    fn run(&mut self, rounds: u32, x: &[f32], y: &mut [f32]) {
        let mut part = self.x.slice_mut(..x.len());
        self.stream.memcpy_htod(x, &mut part).expect("up");
        launch(&self.stream, &self.kernel, &mut part, rounds).expect("launched");
        self.stream.memcpy_dtoh(&part, y).expect("down");
        self.stream.synchronize().expect("done");
    }
}

fn input() -> Vec<f32> {
    (0..ELEMENTS as u16).map(f32::from).collect()
}

/// Rounds for which an item takes about a millisecond.
fn millisecond(by_hand: &mut ByHand) -> u32 {
    let (x, mut y) = (input(), vec![0.0; ELEMENTS]);
    let mut rounds = 64;
    while burst(21, || timed(|| by_hand.run(rounds, &x, &mut y))) < Duration::from_millis(1) {
        rounds = rounds * 5 / 4;
    }
    rounds
}

/// What a function keeps on its slot.
fn buffer<'c>(context: &'c Context, count: usize) -> Result<distfun::SlotState<'c, CudaSlice<f32>>, GpuError> {
    let gpu = context.device().gpu().expect("a GPU").cuda()?;
    context.try_slot_state(|| gpu.checked(4 * count as u64, gpu.stream().alloc_zeros(count)))
}

fn work(rounds: u32, context: &Context) -> Result<Vec<f32>, GpuError> {
    let gpu = context.device().gpu().expect("a GPU").cuda()?;
    let kernel = gpu.kernel(KERNEL, "work")?;
    let mut x = buffer(context, ELEMENTS)?;
    let elements = context.shared().array::<f32, ndarray::Ix1>("x")?;
    gpu.checked(0, gpu.stream().memcpy_htod(elements.as_slice().expect("one piece"), &mut *x))?;
    gpu.checked(0, launch(gpu.stream(), &kernel, &mut x.as_view_mut(), rounds))?;
    gpu.download(&x)
}

/// 200 items of a millisecond each, one after the other: what a slot costs beyond them.
pub(crate) fn kernels() -> Case {
    let mut by_hand = ByHand::new(ELEMENTS);
    let rounds = millisecond(&mut by_hand);
    let x = input();
    let shared = SharedData::builder().array("x", &ndarray::ArrayView1::from(&x)).expect("one key").build();
    let dfun = on_gpu(distribute!(work)).shared_data(shared.expect("shared data")).build().expect("valid options");
    Case {
        name: "200 kernels of 1 ms by CUDA, against a loop by hand",
        owe: 1.05,
        pairs: 31,
        ours: Box::new(move || timed(|| dfun.try_map(vec![rounds; 200]).wait().expect("no failures"))),
        baseline: Box::new(move || {
            let mut one = |_| {
                let mut y = vec![0.0; ELEMENTS];
                by_hand.run(rounds, &x, &mut y);
                y
            };
            timed(|| (0..200).map(&mut one).collect::<Vec<_>>())
        }),
        note: None,
    }
}

/// Rows of the matrix of 256 MiB, and its columns.
const SHAPE: (usize, usize) = (1024, 65536);

/// Parts in which the loop by hand takes it to the device.
const PARTS: usize = 4;

fn columns_on_gpu(x: ArrayView2<f32>, context: &Context) -> Array2<f32> {
    let elements = x.t().to_slice().expect("it lies column by column");
    let result = || {
        let gpu = context.device().gpu().expect("a GPU").cuda()?;
        let kernel = gpu.kernel(KERNEL, "work")?;
        let mut all = buffer(context, elements.len())?;
        let mut part = all.slice_mut(..elements.len());
        let mut result = vec![0.0f32; elements.len()];
        gpu.checked(0, gpu.stream().memcpy_htod(elements, &mut part))?;
        gpu.checked(0, launch(gpu.stream(), &kernel, &mut part, 1))?;
        gpu.checked(0, gpu.stream().memcpy_dtoh(&part, &mut result))?;
        gpu.checked(0, gpu.stream().synchronize())?;
        Ok(result)
    };
    let result = result().unwrap_or_else(|error: GpuError| panic!("{error}"));
    Array2::from_shape_vec(x.dim().f(), result).expect("as many elements")
}

/// 256 MiB up, through a kernel, and down again.
pub(crate) fn columns() -> Case {
    let mut by_hand = ByHand::new(SHAPE.0 * SHAPE.1 / PARTS);
    let x = Array2::from_shape_fn(SHAPE.f(), |(row, column)| (row + column) as f32);
    let copy = x.clone();
    let dfun = on_gpu(distribute!(columns_on_gpu)).build().expect("valid options");
    Case {
        name: "256 MiB of columns up and down by CUDA, against a loop",
        owe: 1.0 / 0.9,
        pairs: 31,
        ours: Box::new(move || timed(|| dfun.columns(&x).wait().expect("no failures"))),
        baseline: Box::new(move || {
            let mut all = || {
                let mut y = Array2::<f32>::zeros(SHAPE.f());
                let (from, to) = (copy.t().to_slice().expect("F"), y.as_slice_memory_order_mut().expect("one piece"));
                let part = from.len() / PARTS;
                from.chunks(part).zip(to.chunks_mut(part)).for_each(|(x, y)| by_hand.run(1, x, y));
                y
            };
            timed(&mut all)
        }),
        note: None,
    }
}
