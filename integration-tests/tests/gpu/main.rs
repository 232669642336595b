//! GPUs: who gets work, what functions find there, and what happens when a device fails. On the software driver of Vulkan
//! where there is no GPU; where there is neither, the tests say so and pass.

mod faults;
mod kernels;
mod nodes;
mod policies;
mod processes;

use std::{collections::BTreeSet, thread};

use distfun::{DistributedFunction, GpuPolicy, gpu, prelude::*};

distfun::host_tests!();

/// Whether there is anything that looks like a GPU.
fn is_there() -> bool {
    let is_there = !gpu::all(true).is_empty();
    if !is_there {
        eprintln!("no driver of Vulkan is installed (mesa-vulkan-drivers, libvulkan1): left out");
    }
    is_there
}

/// Where an item was computed.
fn place(_: u32, context: &Context) -> String {
    match context.device() {
        Device::Gpu(gpu) => gpu.info().name.clone(),
        _ => "cpu".into(),
    }
}

/// The kinds of places where 40 items are computed, short ones.
fn kinds(dfun: &DistributedFunction<u32, String>) -> Vec<&'static str> {
    kinds_of(dfun.map(0..40).wait().unwrap())
}

fn kinds_of(places: Vec<String>) -> Vec<&'static str> {
    let kinds: BTreeSet<&str> = places.iter().map(|place| if place == "cpu" { "cpu" } else { "gpu" }).collect();
    kinds.into_iter().collect()
}

/// With two CPU slots and every GPU, software ones included.
macro_rules! on {
    ($function:expr, $policy:ident) => {
        distribute!($function).slots(2).gpu_policy(::distfun::GpuPolicy::$policy).software_gpu(true)
    };
}
use on;

/// Names of the threads of this process, as the system has them.
fn threads() -> Vec<String> {
    let tasks =
        std::fs::read_dir("/proc/self/task").map(|tasks| tasks.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    tasks.into_iter().filter_map(name).map(|name| name.trim().to_owned()).collect()
}

#[test]
fn a_slot_on_a_gpu_is_freed_with_its_thread() {
    if !is_there() {
        return;
    }
    // Alone in the process as far as GPUs go: other tests of this binary have such threads too.
    let before = threads().iter().filter(|name| name.starts_with("distfun-gpu-7")).count();
    let dfun = distribute!(place).slots(7).gpu_policy(GpuPolicy::PreferGpu).software_gpu(true).endaftercall(false);
    let dfun = dfun.build().unwrap();
    assert_eq!(kinds(&dfun), ["gpu"]);
    let count = || threads().iter().filter(|name| name.starts_with("distfun-gpu-7")).count();
    if cfg!(target_os = "linux") {
        assert_eq!(count(), before + 1);
    }
    dfun.finished().unwrap();
    thread::yield_now();
    assert_eq!(count(), before);
}
