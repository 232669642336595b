//! Who gets work on this machine alone.

use distfun::{BuildError, GpuPolicy, Manager, SettingsError, gpu, prelude::*};

use crate::{is_there, kinds, on, place};

#[test]
fn without_a_policy_nothing_runs_on_a_gpu() {
    assert_eq!(kinds(&distribute!(place).slots(2).build().unwrap()), ["cpu"]);
}

#[test]
fn what_computes_on_cpus_counts_as_a_gpu_only_where_it_shall() {
    let real = gpu::all(false).len();
    let software = gpu::all(true).len() - real;
    let expected = if real > 0 { "gpu" } else { "cpu" };
    let dfun = distribute!(place).slots(2).gpu_policy(GpuPolicy::PreferGpu).build().unwrap();
    assert_eq!(kinds(&dfun), [expected]);
    if software > 0 {
        assert_eq!(kinds(&on!(place, PreferGpu).build().unwrap()), ["gpu"]);
    }
}

#[test]
fn each_policy_uses_what_it_says_on_a_machine_with_a_gpu() {
    if !is_there() {
        return;
    }
    for policy in [GpuPolicy::PreferGpu, GpuPolicy::RequireAll, GpuPolicy::GpuOrFail] {
        let dfun = distribute!(place).slots(2).gpu_policy(policy).software_gpu(true).build().unwrap();
        assert_eq!(kinds(&dfun), ["gpu"], "{policy}");
    }
    // Long enough for all slots to take part.
    fn slow(x: u32, context: &Context) -> String {
        std::thread::sleep(std::time::Duration::from_millis(3));
        place(x, context)
    }
    assert_eq!(kinds(&on!(slow, Mixed).build().unwrap()), ["cpu", "gpu"]);
}

/// Twenty times as fast on a GPU.
fn quicker_there(_: u32, context: &Context) -> &'static str {
    let (kind, ms) = if context.device().gpu().is_some() { ("gpu", 1) } else { ("cpu", 20) };
    std::thread::sleep(std::time::Duration::from_millis(ms));
    kind
}

#[test]
fn mixed_gives_each_kind_by_the_speed_it_shows_and_ends_with_the_faster_one() {
    if !is_there() {
        return;
    }
    let dfun = distribute_local(quicker_there).slots(1).max_gpu(1).gpu_policy(GpuPolicy::Mixed).software_gpu(true);
    let dfun = dfun.endaftercall(false).build().unwrap();
    for _ in 0..2 {
        let since = std::time::Instant::now();
        let places = dfun.map(0..300).wait().unwrap();
        let on_cpu = places.iter().filter(|place| **place == "cpu").count();
        assert!((1..60).contains(&on_cpu), "{on_cpu} of 300");
        // 300 ms for the GPU alone; what a CPU takes last would be waited for.
        assert!(since.elapsed().as_millis() < 2000, "{:?}", since.elapsed());
    }
}

#[test]
fn without_a_gpu_functions_run_on_cpus_or_are_refused_before_anything_starts() {
    for policy in [GpuPolicy::PreferGpu, GpuPolicy::RequireAll, GpuPolicy::Mixed] {
        let dfun = distribute!(place).slots(2).gpu_policy(policy).max_gpu(0).build().unwrap();
        assert_eq!(kinds(&dfun), ["cpu"], "{policy}");
    }
    let refused = distribute!(place).slots(2).gpu_policy(GpuPolicy::GpuOrFail).max_gpu(0).build().unwrap_err();
    assert!(matches!(refused, BuildError::Settings(SettingsError::NoGpu { .. })), "{refused}");
    let text = refused.to_string();
    assert!(text.starts_with(".gpu_policy() demands a GPU, and this machine has none that can be used"), "{text}");
    assert!(text.ends_with(": .max_gpu() is 0"), "{text}");
    assert!(Manager::builder().gpu_policy(GpuPolicy::GpuOrFail).max_gpu(0).start().is_err());
}

#[test]
fn where_drivers_show_only_software_the_refusal_says_how_it_counts() {
    if !is_there() || !gpu::all(false).is_empty() {
        return;
    }
    let text = distribute!(place).gpu_policy(GpuPolicy::GpuOrFail).build().unwrap_err().to_string();
    let name = &gpu::all(true)[0].name;
    let why = format!("show only {name}, which computes on CPUs; `.software_gpu(true)` or DISTFUN_SOFTWARE_GPU=1");
    assert!(text.contains(&why), "{text}");
    // At a call, where another machine might have had one.
    let dfun = distribute!(place).slots(1).gpu_policy(GpuPolicy::GpuOrFail).machines(["127.0.0.1:65123"]);
    let text = dfun.build().unwrap().map(0..3).wait().unwrap_err().to_string();
    assert!(text.contains("this machine has none") && text.contains(&why), "{text}");
}

#[test]
fn a_library_of_a_driver_that_is_not_there_is_named() {
    if let Ok(library) = std::env::var("MUST_BE_MISSING") {
        let text = distribute!(place).gpu_policy(GpuPolicy::GpuOrFail).software_gpu(true).build().unwrap_err();
        assert!(text.to_string().contains(&library), "{text}");
        return;
    }
    // What can't be loaded is not there.
    let folder = std::env::temp_dir().join(format!("distfun-no-vulkan-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["libvulkan.so.1", "libvulkan.so", "libcuda.so.1", "libcuda.so"] {
        std::fs::write(folder.join(name), "").unwrap();
    }
    let missing: &[&str] =
        if cfg!(feature = "cuda") { &["libvulkan.so.1", "libcuda.so.1"] } else { &["libvulkan.so.1"] };
    for library in missing.iter().filter(|_| cfg!(target_os = "linux")) {
        let name = "policies::a_library_of_a_driver_that_is_not_there_is_named";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args([name, "--exact"]).env("LD_LIBRARY_PATH", &folder).env("MUST_BE_MISSING", library);
        let done = again.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_machine_may_leave_its_cpus_to_others_and_compute_on_its_gpus() {
    if !is_there() {
        return;
    }
    let builder = || distribute!(place).max_cpu(0).gpu_policy(GpuPolicy::PreferGpu).software_gpu(true);
    assert_eq!(kinds(&builder().build().unwrap()), ["gpu"]);
    let refused = builder().max_gpu(0).build().unwrap_err();
    assert!(matches!(refused, BuildError::Settings(SettingsError::NoSlots { .. })), "{refused}");
}

#[test]
fn what_is_said_of_gpus_without_a_policy_is_refused_with_the_remedy() {
    let why = "has no meaning without GPUs; add .gpu_policy(GpuPolicy::PreferGpu), or leave it out";
    let text = distribute!(place).max_gpu(1).build().unwrap_err().to_string();
    assert_eq!(text, format!(".max_gpu() {why}"));
    let text = distribute!(place).software_gpu(true).build().unwrap_err().to_string();
    assert_eq!(text, format!(".software_gpu() {why}"));
    distribute!(place).software_gpu(false).build().unwrap();
}

#[test]
fn a_call_in_the_calling_thread_is_on_its_cpu() {
    let dfun = on!(place, PreferGpu).sequential(true).build().unwrap();
    assert_eq!(kinds(&dfun), ["cpu"]);
}

#[tokio::test]
async fn a_manager_runs_messages_on_gpus_and_says_in_its_status_what_it_has() {
    if !is_there() {
        return;
    }
    let manager = Manager::builder().slots(1).gpu_policy(GpuPolicy::PreferGpu).software_gpu(true).start().unwrap();
    let places = manager.send(distfun::Distribute::map(function!(place), 0..4)).await.unwrap().unwrap();
    assert!(places.iter().all(|place| place != "cpu"), "{places:?}");
    let status = manager.send(distfun::Status).await.unwrap();
    assert_eq!(status.gpus, gpu::all(true));
    let text = format!("worker 1 (gpu {}): idle", status.gpus[0]);
    assert!(status.to_string().contains(&text), "{status}");
}
