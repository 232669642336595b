//! What happens when a kernel, or a device, fails.

use std::sync::atomic::{AtomicU32, Ordering};

use distfun::{Ending, FailureCause, GpuPolicy, SharedData, gpu::GpuError, prelude::*};

use crate::{
    is_there,
    kernels::{SCALE, scale},
    kinds_of, on, place,
};

/// Fails in the way that its item says, on a GPU.
fn faulty(fault: String, context: &Context) -> Result<Vec<f32>, GpuError> {
    let gpu = context.device().gpu().expect("a GPU").wgpu()?;
    let x = [1.0f32, 2.0];
    match &*fault {
        "syntax" => gpu.kernel("fn scale( {", "scale").map(|_| Vec::new()),
        "entry" => gpu.kernel(SCALE, "no_such_entry").map(|_| Vec::new()),
        "bindings" => {
            gpu.run(&gpu.kernel(SCALE, "scale")?, &[&gpu.upload(&x)?], [1, 1, 1])?;
            Ok(Vec::new())
        }
        "groups" => {
            let (factor, x) = (gpu.upload(&[1.0f32])?, gpu.upload(&x)?);
            gpu.run(&gpu.kernel(SCALE, "scale")?, &[&factor, &x], [u32::MAX, 1, 1])?;
            Ok(Vec::new())
        }
        "memory" => gpu.blank::<u64>(1 << 44).map(|_| Vec::new()),
        "too many" => gpu.blank::<u64>(usize::MAX / 4).map(|_| Vec::new()),
        "beyond" => {
            gpu.read(&gpu.upload(&x)?, &mut [0.0f32; 3])?;
            Ok(Vec::new())
        }
        "overflow" => {
            gpu.fill(&gpu.blank::<f32>(1)?, &x)?;
            Ok(Vec::new())
        }
        _ => scale(gpu, 2.0, &x),
    }
}

#[test]
fn what_a_device_refuses_is_a_typed_error_and_the_device_goes_on() {
    if !is_there() {
        return;
    }
    let faults =
        ["", "syntax", "entry", "bindings", "groups", "memory", "too many", "overflow", "beyond", ""].map(String::from);
    let dfun = on!(faulty, GpuOrFail).max_gpu(1).build().unwrap();
    let results = dfun.map(faults).wait().unwrap();
    let kind = |result: &Result<Vec<f32>, GpuError>| match result {
        Ok(values) => {
            assert_eq!(values, &[2.0, 4.0]);
            "ok"
        }
        Err(GpuError::Kernel { name, message }) => {
            assert!(!name.is_empty() && !message.is_empty());
            "kernel"
        }
        Err(GpuError::Refused { message }) => {
            assert!(!message.is_empty());
            "refused"
        }
        Err(GpuError::OutOfMemory { bytes, .. }) => {
            assert!(*bytes >= 8 << 44);
            "memory"
        }
        Err(other) => panic!("{other}"),
    };
    let kinds: Vec<_> = results.iter().map(kind).collect();
    assert_eq!(kinds[..5], ["ok", "kernel", "kernel", "refused", "refused"]);
    let is_too_large = |kind: &&str| ["memory", "refused"].contains(kind);
    assert!(kinds[5..7].iter().all(is_too_large), "larger than any buffer: {kinds:?}");
    assert_eq!(kinds[7..], ["refused", "refused", "ok"]);
}

/// Nine elements of one byte, in a buffer that is padded to twelve: what becomes of so many more of them.
fn one_byte_elements(count: usize, context: &Context) -> Result<Vec<u8>, GpuError> {
    let gpu = context.device().gpu().expect("a GPU").wgpu()?;
    let buffer = gpu.upload(&[5u8; 9])?;
    let mut read = vec![0; count];
    gpu.read(&buffer, &mut read)?;
    gpu.fill(&buffer, &vec![7; count])?;
    gpu.download(&buffer)
}

#[test]
fn what_pads_a_buffer_is_no_room_for_elements() {
    if !is_there() {
        return;
    }
    let results = on!(one_byte_elements, GpuOrFail).build().unwrap().map([4, 9, 12]).wait().unwrap();
    assert_eq!(results[0], Ok(vec![7, 7, 7, 7, 5, 5, 5, 5, 5]));
    assert_eq!(results[1], Ok(vec![7; 9]));
    assert_eq!(results[2], Err(GpuError::Refused { message: "12 elements, the buffer has 9".into() }));

    fn filled(count: usize, context: &Context) -> Result<Vec<u8>, GpuError> {
        let gpu = context.device().gpu().expect("a GPU").wgpu()?;
        let buffer = gpu.blank::<u8>(9)?;
        gpu.fill(&buffer, &vec![7; count])?;
        gpu.download(&buffer)
    }
    let results = on!(filled, GpuOrFail).build().unwrap().map([9, 12]).wait().unwrap();
    assert_eq!(results[0], Ok(vec![7; 9]));
    assert_eq!(results[1], Err(GpuError::Refused { message: "12 elements, the buffer has 9".into() }));
}

/// What is said of a fault.
fn told(fault: String, context: &Context) -> String {
    let gpu = context.device().gpu().expect("a GPU").wgpu().unwrap();
    match &*fault {
        "shared" => gpu.shared::<f32>(context.shared(), "x").unwrap_err().to_string(),
        _ => faulty(fault, context).unwrap_err().to_string(),
    }
}

#[test]
fn what_is_said_of_a_fault_is_what_can_be_done_about_it() {
    if !is_there() {
        return;
    }
    let shared = SharedData::builder().array("x", &ndarray::Array1::<f64>::zeros(3)).unwrap().build().unwrap();
    let dfun = on!(told, GpuOrFail).max_gpu(1).shared_data(shared).build().unwrap();
    let faults = ["syntax", "bindings", "groups", "shared"].map(String::from);
    let [syntax, bindings, groups, shared] = &dfun.map(faults).wait().unwrap()[..] else { panic!() };
    for text in [syntax, bindings, groups] {
        assert!(!text.contains("Validation Error") && !text.contains("Caused by") && !text.contains("In "), "{text}");
    }
    assert!(syntax.contains("scale( {"), "the line of the kernel: {syntax}");
    let expected = "Number of bindings in bind group descriptor (1) does not match";
    assert!(bindings.starts_with(&format!("the GPU refuses: {expected}")), "{bindings}");
    assert!(bindings.ends_with("; what the entry point does not use is no binding"), "{bindings}");
    assert!(shared.ends_with("was asked for as one of f32: ask for `shared::<f64>`"), "{shared}");
}

static LOSSES: AtomicU32 = AtomicU32::new(0);

/// Loses its device the first time that it is given item 3.
fn once(x: &u32, context: &Context) -> Result<Vec<f32>, GpuError> {
    let gpu = context.device().gpu().expect("a GPU").wgpu()?;
    if *x == 3 && LOSSES.fetch_add(1, Ordering::Relaxed) == 0 {
        gpu.device().destroy();
    }
    scale(gpu, *x as f32, &[1.0, 2.0])
}

#[test]
fn what_ran_on_a_device_when_it_was_lost_is_redone_on_the_device_opened_again() {
    if !is_there() {
        return;
    }
    let dfun = on!(once, GpuOrFail).max_gpu(1).build().unwrap();
    let results = dfun.try_map(0..10u32).wait().unwrap();
    assert_eq!(results, (0..10u8).map(|x| vec![f32::from(x), 2.0 * f32::from(x)]).collect::<Vec<_>>());
    assert_eq!(LOSSES.load(Ordering::Relaxed), 2);
}

/// Loses its device whenever it is given item 3, and says nothing of it.
fn always(x: &u32, context: &Context) -> u32 {
    if let Device::Gpu(gpu) = context.device()
        && *x == 3
    {
        gpu.wgpu().unwrap().device().destroy();
    }
    10 * x
}

#[test]
fn an_item_that_loses_every_device_it_gets_fails_alone() {
    if !is_there() {
        return;
    }
    let error = on!(always, GpuOrFail).max_gpu(1).build().unwrap().map(0..10u32).wait().unwrap_err();
    assert!(matches!(error.failed[..], [ref it] if it.index == 3), "{error:?}");
    assert!(matches!(error.failed[0].cause, FailureCause::Poisoned { deaths: 3, .. }), "{error:?}");
    assert_eq!(error.finished().len(), 9);
}

/// Loses its device with every item.
fn hopeless(x: &u32, context: &Context) -> String {
    if let Device::Gpu(gpu) = context.device() {
        gpu.wgpu().unwrap().device().destroy();
    }
    place(*x, context)
}

#[test]
fn where_every_device_is_lost_for_good_the_policy_is_judged_anew() {
    if !is_there() {
        return;
    }
    let dfun = on!(hopeless, PreferGpu).max_gpu(1).endaftercall(false).build().unwrap();
    let error = dfun.map(0..20u32).wait().err();
    // The items that were blamed for it have failed, all others are done by CPUs.
    let failed = error.as_ref().map_or(0, |error| error.failed.len());
    assert!(failed <= 2, "{error:?}");
    assert_eq!(kinds_of(dfun.map(0..5u32).wait().unwrap()), ["cpu"]);

    let dfun = on!(hopeless, GpuOrFail).max_gpu(1).endaftercall(false).build().unwrap();
    let error = dfun.map(0..20u32).wait().unwrap_err();
    assert_eq!(error.ending(), Ending::NoGpu, "{error}");
    let text = dfun.map(0..5u32).wait().unwrap_err().to_string();
    assert!(text.contains("this machine has none") && text.contains("the device is lost (Destroyed)"), "{text}");
    assert!(!text.contains("(Destroyed): "), "it says no more, and so there is no colon: {text}");
}

#[test]
fn a_panic_of_a_function_on_a_gpu_fails_its_item_only() {
    if !is_there() {
        return;
    }
    fn odd(x: u32, context: &Context) -> u32 {
        assert!(context.device().gpu().is_some() && x.is_multiple_of(2), "{x} is odd");
        x
    }
    let error = on!(odd, GpuOrFail).build().unwrap().map(0..6).wait().unwrap_err();
    assert_eq!((error.failed.len(), error.finished().len()), (3, 3));
    assert!(GpuPolicy::GpuOrFail.wants_gpus());
}
