//! GPUs of other machines.

use std::time::{Duration, Instant};

use distfun::{
    DistributedFunction, Ending, GpuPolicy,
    node::{self, NodeHandle},
    prelude::*,
};

use crate::{is_there, kernels::tripled, kinds_of, place};

/// A node in this process with two slots on CPUs; with the software GPU, or none.
fn start(gpus: usize) -> NodeHandle {
    let config = node::config().listen("127.0.0.1:0").slots(2).max_gpu(gpus).software_gpu(true).as_another_process();
    let cache = std::env::temp_dir().join(format!("distfun-gpu-test-{}", std::process::id()));
    let config = config.cache(cache).offer(function!(place)).offer(function!(tripled)).offer(function!(at_once));
    node::start(config).expect("a node starts")
}

/// Of a Manager to whom this machine has a GPU, or none.
fn built(policy: GpuPolicy, has_gpu: bool, nodes: &[&NodeHandle]) -> DistributedFunction<u32, String> {
    let machines = nodes.iter().map(|node| node.address());
    let builder = distribute!(place).slots(1).gpu_policy(policy).software_gpu(has_gpu);
    builder.machines(machines).endaftercall(false).build().unwrap()
}

fn kinds(dfun: &DistributedFunction<u32, String>) -> Vec<&'static str> {
    // Enough for everybody.
    kinds_of(dfun.map(0..3000).wait().unwrap())
}

#[test]
fn prefer_gpu_uses_the_only_gpu_there_is_wherever_it_is() {
    if !is_there() {
        return;
    }
    let (with, without) = (start(1), start(0));
    assert_eq!(kinds(&built(GpuPolicy::PreferGpu, false, &[&without, &with])), ["gpu"]);
    assert_eq!(kinds(&built(GpuPolicy::PreferGpu, true, &[&without])), ["gpu"]);
    assert_eq!(kinds(&built(GpuPolicy::PreferGpu, false, &[&without])), ["cpu"]);
}

#[test]
fn require_all_uses_cpus_where_one_machine_has_no_gpu() {
    if !is_there() {
        return;
    }
    let (with, without) = (start(1), start(0));
    assert_eq!(kinds(&built(GpuPolicy::RequireAll, true, &[&with])), ["gpu"]);
    assert_eq!(kinds(&built(GpuPolicy::RequireAll, true, &[&with, &without])), ["cpu"]);
    assert_eq!(kinds(&built(GpuPolicy::RequireAll, false, &[&with])), ["cpu"], "the Manager's own");
}

#[test]
fn gpu_or_fail_names_the_machine_that_has_none() {
    if !is_there() {
        return;
    }
    let (with, without) = (start(1), start(0));
    assert_eq!(kinds(&built(GpuPolicy::GpuOrFail, true, &[&with])), ["gpu"]);
    let error = built(GpuPolicy::GpuOrFail, true, &[&with, &without]).map(0..10).wait().unwrap_err();
    assert_eq!(error.ending(), Ending::NoGpu);
    let text = error.to_string();
    assert!(text.contains(without.address()) && !text.contains(with.address()), "{text}");
}

#[test]
fn a_policy_does_not_wait_for_a_machine_that_is_not_there() {
    if !is_there() {
        return;
    }
    let with = start(1);
    let nowhere = "127.0.0.1:65123"; // where nobody listens
    let since = Instant::now();
    let dfun = distribute!(place).slots(1).gpu_policy(GpuPolicy::RequireAll).software_gpu(true);
    let dfun = dfun.machines([with.address(), nowhere]).build().unwrap();
    assert_eq!(kinds_of(dfun.map(0..10).wait().unwrap()), ["gpu"]);
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
}

/// Where it runs, when all of the machines are at it.
fn at_once(x: u32, context: &Context) -> String {
    std::thread::sleep(Duration::from_millis(2));
    let kind = if context.device().gpu().is_some() { "gpu" } else { "cpu" };
    format!("{kind} {}", u8::from(x == u32::MAX))
}

#[test]
fn mixed_uses_cpus_and_gpus_of_all_machines() {
    if !is_there() {
        return;
    }
    let node = start(1);
    let dfun = distribute!(at_once).max_cpu(0).gpu_policy(GpuPolicy::Mixed).max_gpu(1).software_gpu(true);
    let dfun = dfun.machines([node.address()]).endaftercall(false).build().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        seen.extend(dfun.map(0..200).wait().unwrap());
    }
}

#[test]
fn a_kernel_runs_at_a_node_and_its_errors_come_back_typed() {
    if !is_there() {
        return;
    }
    let node = start(1);
    let dfun = distribute!(tripled).max_cpu(0).gpu_policy(GpuPolicy::GpuOrFail);
    let dfun = dfun.machines([node.address()]).endaftercall(false).build().unwrap();
    let items: Vec<Vec<f32>> = (1..50u16).map(|n| (0..n).map(f32::from).collect()).collect();
    let expected: Vec<Vec<f32>> = items.iter().map(|x| x.iter().map(|x| 3.0 * x).collect()).collect();
    assert_eq!(dfun.try_map(items).wait().unwrap(), expected);
}

/// A node that knows nothing, with the software GPU.
fn bare() -> NodeHandle {
    let cache = std::env::temp_dir().join(format!("distfun-gpu-programs-{}", std::process::id()));
    let config = node::config().listen("127.0.0.1:0").slots(1).software_gpu(true).as_another_process();
    node::start_programs(config.cache(cache)).expect("a node starts")
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_that_is_sent_to_a_node_computes_on_its_gpu() {
    use distfun::gpu::GpuError;

    #[allow(clippy::ptr_arg, reason = "a function of a reference to a sized item")]
    fn cpu(x: &Vec<f32>) -> Result<Vec<f32>, GpuError> {
        panic!("{} items on a CPU", x.len())
    }
    if !is_there() {
        return;
    }
    let node = bare();
    let dfun = distribute!(cpu).gpu(function!(tripled)).max_cpu(0).gpu_policy(GpuPolicy::GpuOrFail);
    let dfun = dfun.machines([node.address()]).build().unwrap();
    let items: Vec<Vec<f32>> = (1..30u16).map(|n| (0..n).map(f32::from).collect()).collect();
    let expected: Vec<Vec<f32>> = items.iter().map(|x| x.iter().map(|x| 3.0 * x).collect()).collect();
    assert_eq!(dfun.try_map(items).wait().unwrap(), expected);
}

#[test]
#[cfg(target_os = "linux")]
fn a_device_that_is_lost_at_a_node_costs_its_item_only() {
    fn deadly(x: u32, context: &Context) -> u32 {
        let gpu = context.device().gpu().expect("a GPU").wgpu().unwrap();
        if x == 3 {
            gpu.device().destroy();
        }
        2 * x
    }
    if !is_there() {
        return;
    }
    let node = bare();
    let dfun = distribute!(deadly).max_cpu(0).gpu_policy(GpuPolicy::GpuOrFail).machines([node.address()]);
    let error = dfun.build().unwrap().map(0..10u32).wait().unwrap_err();
    assert!(matches!(error.failed[..], [ref it] if it.index == 3), "{error:?}");
    assert!(error.failed[0].cause.to_string().contains("the device is lost"), "{error:?}");
    assert_eq!(error.finished().len(), 9);
}
