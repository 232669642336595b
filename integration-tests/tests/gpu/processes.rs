//! GPUs whose slots run functions in processes of their own.
#![cfg(target_os = "linux")]

use distfun::{FailureCause, Isolation, gpu::GpuError, prelude::*};

use crate::{
    is_there,
    kernels::{scale, tripled},
    on,
};

#[test]
fn a_kernel_runs_in_the_process_of_its_slot() {
    if !is_there() {
        return;
    }
    fn who(_: u32, context: &Context) -> Result<(u32, Vec<f32>), GpuError> {
        let gpu = context.device().gpu().expect("a GPU").wgpu()?;
        Ok((std::process::id(), scale(gpu, 2.0, &[1.0, 2.0])?))
    }
    let dfun = on!(who, GpuOrFail).isolation(Isolation::Process).build().unwrap();
    let results = dfun.try_map(0..4u32).wait().unwrap();
    assert!(results.iter().all(|(id, values)| *id != std::process::id() && values == &[2.0, 4.0]), "{results:?}");
}

#[test]
fn a_form_for_gpus_is_found_by_its_name() {
    if !is_there() {
        return;
    }
    #[allow(clippy::ptr_arg, reason = "a function of a reference to a sized item")]
    fn cpu(x: &Vec<f32>) -> Result<Vec<f32>, GpuError> {
        panic!("{} items on a CPU", x.len())
    }
    let dfun = on!(cpu, GpuOrFail).gpu(function!(tripled)).isolation(Isolation::Process).build().unwrap();
    assert_eq!(dfun.try_map([vec![1.0, 2.0], vec![]]).wait().unwrap()[0], [3.0, 6.0]);
}

#[test]
fn a_process_that_dies_or_loses_its_device_costs_one_life_of_the_slot() {
    if !is_there() {
        return;
    }
    fn deadly(x: u32, context: &Context) -> Result<Vec<f32>, GpuError> {
        let gpu = context.device().gpu().expect("a GPU").wgpu()?;
        match x {
            3 => std::process::abort(),
            5 => gpu.device().destroy(),
            _ => {}
        }
        scale(gpu, x as f32, &[1.0])
    }
    let error = on!(deadly, GpuOrFail).isolation(Isolation::Process).build().unwrap().map(0..8u32).wait().unwrap_err();
    let failed: Vec<_> = error.failed.iter().map(|failure| failure.index).collect();
    assert_eq!(failed, [3, 5], "{error:?}");
    let cause = |at: usize| match &error.failed[at].cause {
        FailureCause::Poisoned { deaths: 3, exit: Some(exit) } => exit.story.to_string(),
        other => panic!("{other}"),
    };
    assert!(cause(1).contains("the device is lost"), "{}", cause(1));
    assert!(cause(0).contains("SIGABRT") || cause(0).contains("abort"), "{}", cause(0));
    let (items, values): (Vec<_>, Vec<_>) = error.finished().iter().cloned().unzip();
    assert_eq!(items, [0, 1, 2, 4, 6, 7]);
    assert!(values.iter().all(Result::is_ok));
}
