//! Messages to begin with.

use distfun_core::{
    gpu::{GpuApis, GpuInfo, GpuKind},
    shared_data::ElementType,
};
use distfun_net::message::{
    Call, Cause, Chunk, Died, Done, Exit, Failure, GpuForm, Message, Output, Program, Refusal, Source, Welcome,
};

pub(crate) const ELEMENTS: [ElementType; 15] = {
    use ElementType::*;
    [U8, U16, U32, U64, U128, I8, I16, I32, I64, I128, F32, F64, Bool, ComplexF32, ComplexF64]
};

/// One of every message.
pub(crate) fn messages() -> Vec<Message> {
    let text = || String::from("why");
    let digest = [2; 32];
    let welcome = Welcome {
        name: "bob".into(),
        instance: [7; 16],
        version: "0.1.0".into(),
        target: "x86_64-linux".into(),
        slots: 8,
        functions: 3,
        is_draining: false,
        runs_programs: true,
        gpus: vec![GpuInfo {
            ordinal: 0,
            uuid: "GPU-1".into(),
            name: "H100".into(),
            memory_bytes: 80 << 30,
            kind: GpuKind::Discrete,
            apis: GpuApis { cuda: Some(0), wgpu: None },
        }],
    };
    let call = Call {
        call: 1,
        function: "ops::score".into(),
        fingerprint: [9; 16],
        schema: "f64 -> f64".into(),
        seed: 5,
        shared: Some([1; 32]),
        is_lists: true,
        site: "src/main.rs:1:2".into(),
        item_timeout_us: Some(5000),
        gpu: Some(GpuForm { function: "ops::on_gpu".into(), fingerprint: [8; 16], site: "src/main.rs:2:3".into() }),
    };
    let chunk = Chunk {
        lane: 2,
        turn: 3,
        call: 1,
        start: 1000,
        count: 50,
        attempt: 1,
        budget_us: 2000,
        is_for_gpu: true,
        head: vec![1, 2, 3],
    };
    let failures = vec![
        Failure { index: 1001, cause: Cause::Panicked { message: text(), place: Some("a.rs:1:2".into()) } },
        Failure { index: 1002, cause: Cause::WrongLength { start: 1, end: 2, got: 3 } },
        Failure { index: 1003, cause: Cause::Payload { message: text() } },
    ];
    let done = Done {
        lane: 2,
        turn: 3,
        reached: 1050,
        failures,
        elapsed_us: 1999,
        worker: Some(4),
        died: Some(Died {
            first: 1004,
            count: 1,
            exit: Some(Exit { signal: Some(9), story: text(), stderr: text() }),
            is_overdue: false,
        }),
        head: vec![4, 5],
    };
    vec![
        Message::Ping { sent_us: 300 },
        Message::Pong { sent_us: 300 },
        Message::Credit { bytes: 1 << 20 },
        Message::Goodbye { reason: text() },
        Message::Welcome(welcome),
        Message::Call(call),
        Message::CallEnded { call: 1, overdue: true },
        Message::Chunk(chunk),
        Message::Recall { lane: 2, turn: 3 },
        Message::Done(done),
        Message::Refused { call: 1, refusal: Refusal::NoSuchFunction { closest: Some("f".into()) } },
        Message::Refused { call: 1, refusal: Refusal::Differs { schema: "f".into(), version: "1".into() } },
        Message::Refused { call: 1, refusal: Refusal::SharedData { reason: text() } },
        Message::BlobWanted { digest, offset: 77 },
        Message::BlobPiece { digest, offset: 77, total: 1000 },
        Message::BlobThere { digest },
        Message::Draining { reason: text() },
        Message::Shutdown,
        Message::ShutdownAnswer { stays: Some(text()) },
        Message::Refused { call: 1, refusal: Refusal::NoTimeouts },
        Message::Program(Program {
            digest,
            bytes: 1000,
            args: vec![text()],
            version: "0.1.0".into(),
            target: "x86_64-linux".into(),
            cpu_features: vec!["avx2".into()],
            log_level: 3,
        }),
        Message::ProgramReady { digest },
        Message::ProgramRefused { reason: text() },
        Message::Output(Output {
            call: 1,
            first: 7,
            count: 1,
            worker: 0,
            source: Source::Log { level: 3, target: text() },
            text: text(),
        }),
        Message::Revoked { list: vec![0x30, 0] },
        Message::ProgramHindered { reason: text() },
        Message::GpusRefused { reason: text() },
    ]
}
