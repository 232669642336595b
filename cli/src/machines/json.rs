//! Reports for programs.

use distfun::{
    gpu::GpuInfo,
    machines::{MachineProblem, MachineReport, NodeReport},
};
use serde::Serialize;

/// One line. What is not known is null, so that every line has every key.
#[derive(Serialize)]
struct Line<'a> {
    machine: &'a str,
    addresses: &'a [String],
    usable: bool,
    connected: bool,
    problem: Option<&'a str>,
    error_type: Option<&'a str>,
    name: Option<&'a str>,
    version: Option<&'a str>,
    target: Option<&'a str>,
    slots: Option<u32>,
    slot_limit: Option<u32>,
    gpus: Option<Vec<Gpu<'a>>>,
    functions: Option<u32>,
    draining: Option<bool>,
    round_trip_s: Option<f64>,
}

/// A GPU of a node.
#[derive(Serialize)]
struct Gpu<'a> {
    ordinal: u32,
    uuid: &'a str,
    name: &'a str,
    memory_bytes: u64,
    kind: String,
    apis: String,
}

impl<'a> From<&'a GpuInfo> for Gpu<'a> {
    fn from(gpu: &'a GpuInfo) -> Self {
        let GpuInfo { ordinal, uuid, name, memory_bytes, kind, apis } = gpu;
        Self {
            ordinal: *ordinal,
            uuid,
            name,
            memory_bytes: *memory_bytes,
            kind: kind.to_string(),
            apis: apis.to_string(),
        }
    }
}

impl<'a> From<&'a MachineReport> for Line<'a> {
    fn from(report: &'a MachineReport) -> Self {
        let node = report.node.as_ref().ok();
        let problem: Option<&MachineProblem> = report.node.as_ref().err();
        let text = |of: fn(&NodeReport) -> &str| node.map(of);
        Self {
            machine: &report.machine,
            addresses: &report.addresses,
            usable: report.is_usable(),
            connected: node.is_some(),
            problem: problem.map(|problem| problem.text.as_str()),
            error_type: problem.map(|problem| problem.kind),
            name: text(|node| &node.name),
            version: text(|node| &node.version),
            target: text(|node| &node.target),
            slots: node.map(|node| node.slots),
            slot_limit: report.slot_limit,
            gpus: node.map(|node| node.gpus.iter().map(Gpu::from).collect()),
            functions: node.map(|node| node.functions),
            draining: node.map(|node| node.is_draining),
            round_trip_s: node.map(|node| node.round_trip.as_secs_f64()),
        }
    }
}

/// One object per machine and line.
pub(super) fn lines(reports: &[MachineReport]) -> String {
    let line = |report| serde_json::to_string(&Line::from(report)).expect("plain fields") + "\n";
    reports.iter().map(line).collect()
}
