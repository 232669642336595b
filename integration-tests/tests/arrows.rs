//! Which crate may know which, and where unsafe code may be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

fn metadata() -> Metadata {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).exec().expect("cargo describes the workspace")
}

/// The names of all packages that `from` needs to be built into a program, however far away.
fn reached<'m>(metadata: &'m Metadata, from: &str) -> BTreeSet<&'m str> {
    let names: BTreeMap<&PackageId, &str> =
        metadata.packages.iter().map(|package| (&package.id, package.name.as_str())).collect();
    let start = metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == from);
    let nodes: BTreeMap<_, _> =
        metadata.resolve.as_ref().expect("a graph").nodes.iter().map(|node| (&node.id, node)).collect();
    let mut found = BTreeSet::new();
    let mut open = vec![&start.unwrap_or_else(|| panic!("no package {from}")).id];
    while let Some(id) = open.pop() {
        for dependency in &nodes[id].deps {
            let is_built_in = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if is_built_in && found.insert(names[&dependency.pkg]) {
                open.push(&dependency.pkg);
            }
        }
    }
    found
}

fn runtimes<'m>(found: &BTreeSet<&'m str>, prefixes: &[&str]) -> Vec<&'m str> {
    found.iter().filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))).copied().collect()
}

#[test]
fn the_core_knows_no_runtime_and_the_net_no_actors() {
    let metadata = metadata();
    assert_eq!(runtimes(&reached(&metadata, "distfun-core"), &["tokio", "actix", "mio"]), [""; 0]);
    assert_eq!(runtimes(&reached(&metadata, "distfun-net"), &["actix"]), [""; 0]);
    // The walk finds what is there.
    let all = reached(&metadata, "distfun");
    for name in ["actix", "tokio", "distfun-core", "distfun-net", "mio"] {
        assert!(all.contains(name), "{name} is not found: {all:?}");
    }
}

#[test]
fn who_does_not_ask_for_gpus_builds_nothing_for_them() {
    let metadata = metadata();
    for package in ["distfun", "distfun-cli", "distfun-examples"] {
        assert_eq!(runtimes(&reached(&metadata, package), &["wgpu", "naga", "ash", "cudarc", "pollster"]), [""; 0]);
    }
}

#[test]
fn no_crate_knows_one_that_stands_on_it() {
    let metadata = metadata();
    let layers = ["distfun-core", "distfun-net", "distfun", "distfun-cli"];
    for (height, layer) in layers.into_iter().enumerate() {
        let found = reached(&metadata, layer);
        let above: Vec<_> = layers[height..].iter().filter(|name| found.contains(**name)).collect();
        assert!(above.is_empty(), "{layer} reaches {above:?}");
    }
}

/// The only files that may have unsafe code, with the tests that sit in them, the model of the loan, and functions that do
/// harm to their process.
const ISLANDS: [&str; 11] = [
    "actors/src/compute/lend.rs",
    "actors/src/compute/parts.rs",
    "actors/src/gpu/on_cuda.rs",
    "actors/src/host/area.rs",
    "core/src/shared_data/map.rs",
    "examples/src/bin/gpu_columns.rs",
    "examples/src/bin/gpu_scale.rs",
    "integration-tests/benches/cases/cuda.rs",
    "integration-tests/loom/src/lib.rs",
    "integration-tests/tests/cuda/main.rs",
    "integration-tests/tests/isolation/harm.rs",
];

#[test]
fn unsafe_code_lives_on_its_island_only() {
    let metadata = metadata();
    let root = metadata.workspace_root.as_std_path();
    let mut with_unsafe = BTreeSet::new();
    let mut count = 0;
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.parent().expect("a folder").as_std_path();
        for file in rust_files(folder) {
            count += 1;
            if uses_unsafe(&fs::read_to_string(&file).expect("readable")) {
                with_unsafe.insert(file.strip_prefix(root).expect("inside").to_string_lossy().replace('\\', "/"));
            }
        }
    }
    assert!(count > 30, "only {count} files were found");
    assert_eq!(with_unsafe.iter().map(String::as_str).collect::<Vec<_>>(), ISLANDS);
}

#[test]
fn every_crate_denies_unsafe_code_by_the_lints_of_the_workspace() {
    let metadata = metadata();
    let root = fs::read_to_string(metadata.workspace_root.join("Cargo.toml")).unwrap();
    assert!(root.contains("unsafe_code = \"deny\"") || root.contains("unsafe_code = \"forbid\""));
    for package in metadata.workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        let lines: Vec<&str> = manifest.lines().map(str::trim).collect();
        let inherits = lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"]);
        assert!(inherits, "{} does not take over the lints", package.name);
    }
}

#[test]
fn the_scan_for_unsafe_code_sees_it_and_sees_nothing_else() {
    // Put together, so that this file has none itself.
    let word = ["un", "safe"].concat();
    let code = [" { x }", " fn f()", " impl Send for T {}", " extern \"C\" {}", "\n{ x }", " trait T {}"];
    for rest in code {
        assert!(uses_unsafe(&format!("let y = {word}{rest};")), "{rest}");
    }
    assert!(uses_unsafe(&format!("#![allow( {word}_code )]")));
    assert!(uses_unsafe(&format!("#[expect({word}_code)]")));
    assert!(uses_unsafe(&format!("#[{word}(no_mangle)]")));
    for other in [format!("// {word} {{ }}"), format!("{word}ty {{}}"), format!("#![forbid({word}_code)]")] {
        assert!(!uses_unsafe(&other), "{other}");
    }
    assert!(!uses_unsafe(&format!("let text = \"{word} code\";")));
}

/// Whether a file has unsafe code, or allows itself to. Comments do not count.
fn uses_unsafe(source: &str) -> bool {
    let code: Vec<&str> = source.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
    let code = code.join("\n");
    let packed: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let allows = ["allow", "expect", "warn"].iter().any(|level| packed.contains(&format!("{level}(unsafe_code")));
    let word = |at: usize| {
        let rest = code[at + "unsafe".len()..].trim_start();
        let is_whole = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        is_whole && ["{", "fn ", "impl", "trait ", "extern", "("].iter().any(|next| rest.starts_with(next))
    };
    allows || code.match_indices("unsafe").any(|(at, _)| word(at))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let is_built = path.file_name().is_some_and(|name| name == "target" || name.to_string_lossy().starts_with('.'));
        if path.is_dir() && !is_built {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
