//! What functions do with a GPU that works.

use distfun::{
    GpuPolicy, SharedData,
    gpu::{GpuError, Wgpu},
    prelude::*,
};
use ndarray::{Array1, Array2, ArrayView2, Axis, array};

use crate::{is_there, on};

pub(crate) const SCALE: &str = "
@group(0) @binding(0) var<storage, read> factor: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@compute @workgroup_size(64)
fn scale(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&x) { x[id.x] = factor[0] * x[id.x]; }
}";

pub(crate) fn scale(gpu: &Wgpu, factor: f32, x: &[f32]) -> Result<Vec<f32>, GpuError> {
    let buffer = gpu.upload(x)?;
    let groups = [x.len().div_ceil(64).max(1) as u32, 1, 1];
    gpu.run(&gpu.kernel(SCALE, "scale")?, &[&gpu.upload(&[factor])?, &buffer], groups)?;
    gpu.download(&buffer)
}

/// By a kernel where there is a GPU.
#[allow(clippy::ptr_arg, reason = "a function of a reference to a sized item")]
pub(crate) fn tripled(x: &Vec<f32>, context: &Context) -> Result<Vec<f32>, GpuError> {
    match context.device() {
        Device::Gpu(gpu) => scale(gpu.wgpu()?, 3.0, x),
        _ => Ok(x.iter().map(|x| 3.0 * x).collect()),
    }
}

#[test]
fn a_kernel_that_is_compiled_at_run_time_computes_what_the_loop_does() {
    if !is_there() {
        return;
    }
    let items: Vec<Vec<f32>> = (0..20u16).map(|n| (0..n * 10).map(f32::from).collect()).collect();
    let expected: Vec<Vec<f32>> = items.iter().map(|x| x.iter().map(|x| 3.0 * x).collect()).collect();
    assert_eq!(on!(tripled, GpuOrFail).build().unwrap().try_map(items).wait().unwrap(), expected);
}

#[test]
fn what_goes_up_comes_down_whatever_its_length_and_the_size_of_its_elements() {
    fn there_and_back(count: usize, context: &Context) -> Result<bool, GpuError> {
        let gpu = context.device().gpu().expect("a GPU").wgpu()?;
        let (bytes, longs): (Vec<u8>, Vec<u64>) = (0..count).map(|n| (n as u8, n as u64)).unzip();
        let (up, also_up) = (gpu.upload(&bytes)?, gpu.upload(&longs)?);
        // Not by fours, at the beginning of more: that would write over what is behind.
        assert!(count < 8 || gpu.fill(&up, &[0u8; 3]).is_err());
        let mut half = vec![0u8; count / 2];
        gpu.read(&up, &mut half)?;
        let are_equal = gpu.download(&up)? == bytes && gpu.download(&also_up)? == longs;
        Ok(are_equal && half == bytes[..count / 2] && up.count() == count)
    }
    if is_there() {
        let counts = [0, 1, 2, 3, 4, 5, 1000, 7, 0, 1001];
        assert_eq!(
            on!(there_and_back, GpuOrFail).max_gpu(1).build().unwrap().try_map(counts).wait().unwrap(),
            [true; 10]
        );
    }
}

#[test]
fn a_form_for_gpus_runs_there_and_the_function_elsewhere() {
    fn on_cpu(_: u32) -> &'static str {
        "cpu form"
    }
    // Items and results that travel nowhere need no serde; the forms of `distribute!` have it.
    fn cpu(x: u32) -> String {
        on_cpu(x).into()
    }
    fn gpu(_: u32, context: &Context) -> String {
        context.device().gpu().expect("a GPU").info().name.clone()
    }
    let names = |policy, software| {
        let dfun = distribute!(cpu).gpu(gpu).slots(1).gpu_policy(policy).software_gpu(software).build().unwrap();
        dfun.map(0..5).wait().unwrap()
    };
    assert_eq!(names(GpuPolicy::NoGpu, false), ["cpu form"; 5]);
    if is_there() {
        assert!(names(GpuPolicy::PreferGpu, true).iter().all(|name| name != "cpu form"));
    }
}

#[test]
fn a_form_for_gpus_that_others_can_not_find_is_refused_where_others_compute() {
    fn cpu(x: u32) -> u32 {
        x
    }
    fn gpu(x: u32, _: &Context) -> u32 {
        x
    }
    let builder = || distribute!(cpu).slots(1).isolation(distfun::Isolation::Process);
    let text = builder().gpu(gpu).build().unwrap_err().to_string();
    assert!(text.contains("write .gpu(function!(") && text.contains("kernels::"), "{text}");
    builder().gpu(function!(gpu)).build().unwrap();
}

#[test]
fn a_form_of_single_items_behind_accept_lists_is_refused() {
    fn lists(items: Vec<u32>) -> Vec<u32> {
        items
    }
    fn item(x: u32, _: &Context) -> u32 {
        x
    }
    fn lists_on_gpu(items: Vec<u32>, _: &Context) -> Vec<u32> {
        items
    }
    let text = distribute!(lists).accept_lists().gpu(function!(item)).build().unwrap_err().to_string();
    assert!(text.contains("write .gpu(…) before it"), "{text}");
    let dfun = distribute!(lists).gpu(function!(lists_on_gpu)).accept_lists().slots(1).build().unwrap();
    assert_eq!(dfun.map([1, 2]).wait().unwrap(), [1, 2]);
}

/// Column sums by a kernel, one thread for each column of a matrix that lies column by column.
const SUMS: &str = "
@group(0) @binding(0) var<storage, read> rows: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;
@compute @workgroup_size(64)
fn sum(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= arrayLength(&sums) { return; }
    var total = 0.0;
    for (var row = 0u; row < rows[0]; row++) { total += x[id.x * rows[0] + row]; }
    sums[id.x] = total;
}";

fn sums(x: ArrayView2<f32>) -> Array1<f32> {
    x.sum_axis(Axis(0))
}

fn sums_on_gpu(x: ArrayView2<f32>, context: &Context) -> Array1<f32> {
    let gpu = context.device().gpu().expect("a GPU").wgpu().unwrap();
    let (rows, columns) = x.dim();
    let by_columns: Vec<f32> = x.t().iter().copied().collect();
    let sums = gpu.blank::<f32>(columns).unwrap();
    let (rows, x) = (gpu.upload(&[rows as u32]).unwrap(), gpu.upload(&by_columns).unwrap());
    gpu.run(&gpu.kernel(SUMS, "sum").unwrap(), &[&rows, &x, &sums], [columns.div_ceil(64) as u32, 1, 1]).unwrap();
    Array1::from(gpu.download(&sums).unwrap())
}

#[test]
fn columns_on_gpus_are_pasted_back_as_those_of_cpus_are() {
    if !is_there() {
        return;
    }
    for (rows, columns) in [(1, 1), (3, 200), (50, 7), (17, 1000)] {
        let x = Array2::from_shape_fn((rows, columns), |(row, column)| (row * columns + column) as f32 / 7.0);
        let dfun = on!(sums, GpuOrFail).gpu(function!(sums_on_gpu)).build().unwrap();
        let y = dfun.columns(&x).wait().unwrap();
        let expected = sums(x.view());
        let worst = (&y - &expected).mapv(f32::abs).fold(0.0, |a, b| f32::max(a, *b));
        assert!(y.len() == columns && worst <= 1e-5 * expected.fold(0.0, |a, b| f32::max(a, *b)), "{rows} x {columns}");
    }
}

#[test]
fn shared_data_is_uploaded_once_for_a_device_and_anew_when_it_is_other_data() {
    if !is_there() {
        return;
    }
    /// Whether it is the buffer of the item before, and its elements.
    fn look(_: u32, context: &Context) -> Result<(bool, Vec<f64>), GpuError> {
        let gpu = context.device().gpu().expect("a GPU").wgpu()?;
        let buffer = gpu.shared::<f64>(context.shared(), "w")?;
        let mut before = context.slot_state(|| None);
        let is_same = before.as_ref() == Some(&buffer);
        let elements = gpu.download(&buffer)?;
        *before = Some(buffer);
        Ok((is_same, elements))
    }
    let data =
        |factor: f64| SharedData::builder().array("w", &(array![1.0, 2.0, 3.0] * factor)).unwrap().build().unwrap();
    let dfun = on!(look, GpuOrFail).max_gpu(1).shared_data(data(1.0)).endaftercall(false).build().unwrap();
    for factor in [1.0, 2.0] {
        let dfun = if factor == 1.0 { dfun.clone() } else { dfun.with_shared(data(factor)) };
        for call in 0..2 {
            let seen = dfun.try_map(0..10).wait().unwrap();
            let elements: Vec<f64> = [1.0, 2.0, 3.0].map(|x| factor * x).into();
            assert!(seen.iter().all(|(_, its)| *its == elements), "{seen:?}");
            let uploads = seen.iter().filter(|(is_same, _)| !is_same).count();
            assert_eq!(uploads, usize::from(call == 0), "call {call}, factor {factor}");
        }
    }
    let text = on!(look, GpuOrFail).build().unwrap().try_map(0..1).wait().unwrap_err().to_string();
    assert!(text.contains("there is no shared data \"w\""), "{text}");
}

#[test]
fn kernels_and_buffers_stay_between_chunks_and_go_with_the_slot() {
    if !is_there() {
        return;
    }
    /// How many kernels there are before and after.
    fn count(_: u32, context: &Context) -> Result<(String, String), GpuError> {
        let gpu = context.device().gpu().expect("a GPU").wgpu()?;
        let before = format!("{gpu:?}");
        gpu.kernel(SCALE, "scale")?;
        Ok((before, format!("{gpu:?}")))
    }
    for _ in 0..2 {
        let seen = on!(count, GpuOrFail).max_gpu(1).build().unwrap().try_map(0..5).wait().unwrap();
        assert_eq!(seen[0], ("Wgpu { kernels: 0, .. }".into(), "Wgpu { kernels: 1, .. }".into()), "a slot of its own");
        assert!(seen[1..].iter().all(|(before, after)| before == after && after == &seen[0].1), "{seen:?}");
    }
}
