//! GPUs through wgpu, against a loop over the same kernels that is written by hand: one device, buffers made once.

use std::time::Duration;

use bytemuck::{cast_slice, cast_slice_mut};
use distfun::{
    DistributeBuilder, GpuPolicy, SharedData,
    gpu::{GpuError, wgpu},
    prelude::*,
};
use ndarray::{Array2, ArrayView2, ShapeBuilder};
use wgpu::{Buffer, BufferUsages, ComputePipeline, Device, Queue};

use super::{Case, burst, timed};

/// Multiplies by a factor, so often that it takes a while.
const KERNEL: &str = "
@group(0) @binding(0) var<storage, read> parameters: array<u32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(64)
fn work(@builtin(global_invocation_id) id: vec3<u32>) {
    let at = id.x + id.y * 65536u;
    if at >= arrayLength(&x) { return; }
    var y = x[at];
    for (var i = 0u; i < parameters[0]; i++) { y = y * 0.999 + 0.001; }
    x[at] = y;
}";

/// Workgroups for so many elements: two numbers, as one may be too large.
fn groups(count: usize) -> [u32; 3] {
    let all = count.div_ceil(64) as u32;
    [all.min(1024), all.div_ceil(1024), 1]
}

/// Elements of an item.
const ELEMENTS: usize = 4096;

fn on_gpu<K>(builder: DistributeBuilder<K>) -> DistributeBuilder<K> {
    builder.gpu_policy(GpuPolicy::GpuOrFail).software_gpu(true).max_gpu(1).endaftercall(false)
}

/// Everything that a loop by hand needs.
struct ByHand {
    device: Device,
    queue: Queue,
    pipeline: ComputePipeline,
    parameters: Buffer,
    x: Buffer,
    stage: Buffer,
}

impl ByHand {
    fn new(count: usize) -> Self {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let position = distfun::gpu::all(true)[0].apis.wgpu.expect("a GPU for wgpu");
        let adapter = adapters.into_iter().nth(position as usize).expect("the same list");
        let description = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
        let (device, queue) = block_on(adapter.request_device(&description)).expect("a device");
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(KERNEL.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("work"),
            compilation_options: Default::default(),
            cache: None,
        });
        let buffer = |size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let size = 4 * count as u64;
        let (parameters, x) = (buffer(4, usage), buffer(size, usage));
        let stage = buffer(size, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
        Self { device, queue, pipeline, parameters, x, stage }
    }

    fn run(&self, rounds: u32, x: &[f32], y: &mut [f32]) {
        let bytes = size_of_val(x) as u64;
        self.queue.write_buffer(&self.parameters, 0, cast_slice(&[rounds]));
        self.queue.write_buffer(&self.x, 0, cast_slice(x));
        let entry = |binding, buffer: &'_ Buffer| (binding, buffer.clone());
        let entries = [entry(0, &self.parameters), entry(1, &self.x)];
        let group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &entries.each_ref().map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding: *binding,
                resource: buffer.as_entire_binding(),
            }),
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &group, &[]);
            let [a, b, c] = groups(x.len());
            pass.dispatch_workgroups(a, b, c);
        }
        encoder.copy_buffer_to_buffer(&self.x, 0, &self.stage, 0, bytes);
        self.queue.submit([encoder.finish()]);
        self.stage.map_async(wgpu::MapMode::Read, ..bytes, |mapped| mapped.expect("mapped"));
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("done");
        let view = self.stage.get_mapped_range(..bytes).expect("mapped");
        let y: &mut [u8] = cast_slice_mut(y);
        y.copy_from_slice(&view);
        drop(view);
        self.stage.unmap();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    futures::executor::block_on(future)
}

fn input() -> Vec<f32> {
    (0..ELEMENTS as u16).map(f32::from).collect()
}

/// Rounds for which an item takes about a millisecond.
fn millisecond(by_hand: &ByHand) -> u32 {
    let (x, mut y) = (input(), vec![0.0; ELEMENTS]);
    by_hand.run(1, &x, &mut y);
    let mut rounds = 64;
    while burst(21, || timed(|| by_hand.run(rounds, &x, &mut y))) < Duration::from_millis(1) {
        rounds = rounds * 5 / 4;
    }
    rounds
}

fn work(rounds: u32, context: &Context) -> Result<Vec<f32>, GpuError> {
    let gpu = context.device().gpu().expect("a GPU").wgpu()?;
    let kernel = gpu.kernel(KERNEL, "work")?;
    let (parameters, x) =
        &*context.try_slot_state(|| Ok::<_, GpuError>((gpu.blank::<u32>(1)?, gpu.blank::<f32>(ELEMENTS)?)))?;
    gpu.fill(parameters, &[rounds])?;
    gpu.fill(x, context.shared().array::<f32, ndarray::Ix1>("x")?.as_slice().expect("one piece"))?;
    gpu.run(&kernel, &[parameters, x], groups(ELEMENTS))?;
    gpu.download(x)
}

/// 200 items of a millisecond each, one after the other: what a slot costs beyond them.
pub(crate) fn kernels() -> Case {
    let by_hand = ByHand::new(ELEMENTS);
    let rounds = millisecond(&by_hand);
    of("200 kernels of 1 ms on a GPU, against a loop by hand", by_hand, rounds)
}

/// The same with kernels that take no time.
pub(crate) fn tiny() -> Case {
    of("200 tiny kernels on a GPU, against a loop by hand", ByHand::new(ELEMENTS), 1)
}

fn of(name: &'static str, by_hand: ByHand, rounds: u32) -> Case {
    let x = input();
    let shared = SharedData::builder().array("x", &ndarray::ArrayView1::from(&x)).expect("one key").build();
    let dfun = on_gpu(distribute!(work)).shared_data(shared.expect("shared data")).build().expect("valid options");
    Case {
        name,
        owe: 1.05,
        pairs: 31,
        ours: Box::new(move || timed(|| dfun.try_map(vec![rounds; 200]).wait().expect("no failures"))),
        baseline: Box::new(move || {
            let all = || {
                let one = |_| {
                    let mut y = vec![0.0; ELEMENTS];
                    by_hand.run(rounds, &x, &mut y);
                    y
                };
                (0..200).map(one).collect::<Vec<_>>()
            };
            timed(all)
        }),
        note: None,
    }
}

/// Rows of the matrix of 256 MiB, and its columns.
const SHAPE: (usize, usize) = (1024, 65536);

/// Parts in which it goes to the device, as a binding may have 128 MiB.
const PARTS: usize = 4;

fn columns_on_gpu(x: ArrayView2<f32>, context: &Context) -> Array2<f32> {
    let gpu = context.device().gpu().expect("a GPU").wgpu().expect("wgpu");
    let elements = x.t().to_slice().expect("it lies column by column");
    let result = || {
        let kernel = gpu.kernel(KERNEL, "work")?;
        let (parameters, buffer) = &*context
            .try_slot_state(|| Ok::<_, GpuError>((gpu.upload(&[1u32])?, gpu.blank::<f32>(elements.len())?)))?;
        gpu.fill(buffer, elements)?;
        gpu.run(&kernel, &[parameters, buffer], groups(elements.len()))?;
        let mut result = vec![0.0f32; elements.len()];
        gpu.read(buffer, &mut result)?;
        Ok(result)
    };
    let result = result().unwrap_or_else(|error: GpuError| panic!("{error}"));
    Array2::from_shape_vec(x.dim().f(), result).expect("as many elements")
}

/// 256 MiB up, through a kernel, and down again.
pub(crate) fn columns() -> Case {
    let by_hand = ByHand::new(SHAPE.0 * SHAPE.1 / PARTS);
    let x = Array2::from_shape_fn(SHAPE.f(), |(row, column)| (row + column) as f32);
    let copy = x.clone();
    let dfun = on_gpu(distribute!(columns_on_gpu)).build().expect("valid options");
    Case {
        name: "256 MiB of columns up and down, against a loop by hand",
        owe: 1.0 / 0.9,
        pairs: 31,
        ours: Box::new(move || timed(|| dfun.columns(&x).wait().expect("no failures"))),
        baseline: Box::new(move || {
            let all = || {
                let mut y = Array2::<f32>::zeros(SHAPE.f());
                let (from, to) = (copy.t().to_slice().expect("F"), y.as_slice_memory_order_mut().expect("one piece"));
                let part = from.len() / PARTS;
                from.chunks(part).zip(to.chunks_mut(part)).for_each(|(x, y)| by_hand.run(1, x, y));
                y
            };
            timed(all)
        }),
        note: None,
    }
}
