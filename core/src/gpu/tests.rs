use proptest::prelude::*;

use super::*;

const NVIDIA: u32 = 0x10de;
const AMD: u32 = 0x1002;

fn found(vendor: u32, number: u32, kind: GpuKind) -> Found {
    Found {
        uuid: (vendor == NVIDIA).then(|| format!("GPU-{number}a-{number}")),
        pci: Some(format!("0000:{vendor:02x}:{number:02x}.0")),
        vendor,
        name: format!("{vendor:x} {number}"),
        memory_bytes: 1 << 30,
        kind,
        apis: GpuApis { cuda: None, wgpu: Some(number) },
    }
}

fn hidden(variables: &[(&str, &str)]) -> Hidden {
    Hidden::read(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
}

/// The names of three cards of NVIDIA's that are left.
fn left(value: &str) -> Vec<String> {
    let cards = (0..3).map(|number| found(NVIDIA, number, GpuKind::Discrete)).collect();
    let kept = inventory(Vec::new(), cards, &hidden(&[("CUDA_VISIBLE_DEVICES", value)]), false);
    kept.into_iter().map(|gpu| gpu.uuid).collect()
}

#[test]
fn a_variable_lists_what_is_shown_and_in_which_order() {
    let all = ["GPU-0a-0", "GPU-1a-1", "GPU-2a-2"];
    assert_eq!(left("0,1,2"), all);
    assert_eq!(left("2, 0"), [all[2], all[0]]);
    assert_eq!(left("GPU-1"), [all[1]]);
    assert_eq!(left("GPU-1,0"), [all[1], all[0]]);
}

#[test]
fn a_list_ends_with_the_first_entry_that_names_nothing() {
    for none in ["", "-1", "3", "none", "NoDevFiles", "GPU-", "GPU-9", "7,0"] {
        assert!(left(none).is_empty(), "{none:?}");
    }
    assert_eq!(left("1,-1,0"), ["GPU-1a-1"]);
    assert_eq!(left("1,9,0"), ["GPU-1a-1"]);
}

#[test]
fn a_device_that_is_listed_twice_leaves_none() {
    assert!(left("0,1,0").is_empty());
    assert!(left("0,GPU-0").is_empty());
}

#[test]
fn each_vendor_has_its_own_variables() {
    let cards = vec![
        found(AMD, 0, GpuKind::Discrete),
        found(NVIDIA, 0, GpuKind::Discrete),
        found(AMD, 1, GpuKind::Discrete),
        found(0x8086, 0, GpuKind::Integrated),
    ];
    let left = |variables: &[(&str, &str)]| -> Vec<String> {
        let kept = inventory(Vec::new(), cards.clone(), &hidden(variables), false);
        kept.into_iter().map(|gpu| gpu.name).collect()
    };
    assert_eq!(left(&[]), ["1002 0", "10de 0", "1002 1", "8086 0"]);
    assert_eq!(left(&[("CUDA_VISIBLE_DEVICES", "")]), ["1002 0", "1002 1", "8086 0"]);
    assert_eq!(left(&[("HIP_VISIBLE_DEVICES", "1")]), ["1002 1", "10de 0", "8086 0"]);
    let both = [("HIP_VISIBLE_DEVICES", "1"), ("ROCR_VISIBLE_DEVICES", "0")];
    assert_eq!(left(&both), ["1002 0", "10de 0", "8086 0"], "the driver's comes before the library's");
    assert_eq!(left(&[("ZE_AFFINITY_MASK", "0.0,0.1")]).len(), 4, "two halves are one device");
    assert_eq!(left(&[("ZE_AFFINITY_MASK", "1")]).len(), 3);
}

#[test]
fn what_two_interfaces_show_is_one_device() {
    let shown = found(NVIDIA, 1, GpuKind::Discrete);
    let apis = GpuApis { cuda: Some(0), wgpu: None };
    let by_cuda = Found { apis, memory_bytes: 80 << 30, ..shown.clone() };
    let all = inventory(vec![by_cuda], vec![shown, found(AMD, 0, GpuKind::Discrete)], &Hidden::default(), false);
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].apis, GpuApis { cuda: Some(0), wgpu: Some(1) });
    assert_eq!(all[0].to_string(), "0: 10de 1, 80 GiB (cuda, wgpu)");
    let blind = |found: Found| Found { pci: None, ..found };
    let two = [0, 0].map(|number| blind(found(AMD, number, GpuKind::Discrete)));
    assert_eq!(inventory(Vec::new(), two.into(), &Hidden::default(), false).len(), 2, "nobody knows they are one");
}

#[test]
fn what_cuda_hides_no_other_interface_shows() {
    let shown = found(NVIDIA, 1, GpuKind::Discrete);
    let by_cuda = Found { apis: GpuApis { cuda: Some(0), wgpu: None }, ..shown.clone() };
    let others = vec![found(NVIDIA, 0, GpuKind::Discrete), shown, found(AMD, 0, GpuKind::Discrete)];
    // By its UUID, which graphics do not tell; or by a number that counts in another order.
    for value in ["GPU-1a", "0"] {
        let hidden = hidden(&[("CUDA_VISIBLE_DEVICES", value)]);
        let all = inventory(vec![by_cuda.clone()], others.clone(), &hidden, false);
        let names: Vec<_> = all.iter().map(|gpu| (&*gpu.name, gpu.apis)).collect();
        assert_eq!(names[0], ("10de 1", GpuApis { cuda: Some(0), wgpu: Some(1) }), "{value}");
        assert_eq!(names[1].0, "1002 0");
        assert_eq!(names.len(), 2);
    }
}

#[test]
fn software_is_no_gpu_unless_it_shall_be() {
    let all =
        vec![found(AMD, 0, GpuKind::Software), found(AMD, 1, GpuKind::Integrated), found(AMD, 2, GpuKind::Discrete)];
    let names = |software| -> Vec<String> {
        inventory(Vec::new(), all.clone(), &Hidden::default(), software).into_iter().map(|gpu| gpu.name).collect()
    };
    assert_eq!(names(false), ["1002 2", "1002 1"]);
    assert_eq!(names(true), ["1002 2", "1002 1", "1002 0"]);
}

proptest! {
    #[test]
    fn whatever_a_variable_holds_shows_no_device_twice(text in ".{0,30}", count in 0u32..5) {
        let cards: Vec<_> = (0..count).map(|number| found(NVIDIA, number, GpuKind::Discrete)).collect();
        let kept = inventory(Vec::new(), cards, &hidden(&[("CUDA_VISIBLE_DEVICES", &text)]), false);
        let mut uuids: Vec<_> = kept.iter().map(|gpu| &gpu.uuid).collect();
        prop_assert!(kept.iter().zip(0..).all(|(gpu, ordinal)| gpu.ordinal == ordinal));
        uuids.sort();
        uuids.dedup();
        prop_assert_eq!(uuids.len(), kept.len());
    }
}
