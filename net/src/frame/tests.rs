use distfun_core::{
    gpu::{GpuApis, GpuInfo, GpuKind},
    shared_data::ElementType,
};
use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
};

use super::*;
use crate::message::{
    Call, Cause, Chunk, Died, Done, Exit, Failure, GpuForm, Output, Program, Refusal, Source, Welcome,
};

/// One of every message.
fn every_message() -> Vec<Message> {
    let text = || String::from("why");
    vec![
        Message::Ping { sent_us: 300 },
        Message::Pong { sent_us: 300 },
        Message::Credit { bytes: 1 << 20 },
        Message::Goodbye { reason: text() },
        Message::Welcome(Welcome {
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
        }),
        Message::Call(Call {
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
        }),
        Message::CallEnded { call: 1, overdue: false },
        Message::Chunk(Chunk {
            lane: 2,
            turn: 3,
            call: 1,
            start: 1000,
            count: 50,
            attempt: 1,
            budget_us: 2000,
            is_for_gpu: true,
            head: vec![1, 2, 3],
        }),
        Message::Recall { lane: 2, turn: 3 },
        Message::Done(Done {
            lane: 2,
            turn: 3,
            reached: 1050,
            failures: vec![
                Failure { index: 1001, cause: Cause::Panicked { message: text(), place: Some("a.rs:1:2".into()) } },
                Failure { index: 1002, cause: Cause::WrongLength { start: 1, end: 2, got: 3 } },
                Failure { index: 1003, cause: Cause::Payload { message: text() } },
            ],
            elapsed_us: 1999,
            worker: Some(4),
            died: Some(Died {
                first: 1004,
                count: 1,
                exit: Some(Exit { signal: Some(9), story: text(), stderr: text() }),
                is_overdue: false,
            }),
            head: vec![4, 5],
        }),
        Message::Refused { call: 1, refusal: Refusal::NoSuchFunction { closest: Some("f".into()) } },
        Message::Refused { call: 1, refusal: Refusal::Differs { schema: "f".into(), version: "1".into() } },
        Message::Refused { call: 1, refusal: Refusal::SharedData { reason: text() } },
        Message::BlobWanted { digest: [2; 32], offset: 77 },
        Message::BlobPiece { digest: [2; 32], offset: 77, total: 1000 },
        Message::BlobThere { digest: [2; 32] },
        Message::Draining { reason: text() },
        Message::Shutdown,
        Message::ShutdownAnswer { stays: None },
        Message::Refused { call: 1, refusal: Refusal::NoTimeouts },
        Message::Program(Program {
            digest: [2; 32],
            bytes: 1000,
            args: vec![text()],
            version: "0.1.0".into(),
            target: "x86_64-linux".into(),
            cpu_features: vec!["avx2".into()],
            log_level: 3,
        }),
        Message::ProgramReady { digest: [2; 32] },
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

pub(crate) fn any_element() -> impl Strategy<Value = ElementType> {
    use ElementType::*;
    proptest::sample::select(vec![
        U8, U16, U32, U64, U128, I8, I16, I32, I64, I128, F32, F64, Bool, ComplexF32, ComplexF64,
    ])
}

fn any_headers() -> impl Strategy<Value = Vec<SectionHeader>> {
    vec((any_element(), any::<u64>()).prop_map(|(element, count)| SectionHeader { element, count }), 0..20)
}

/// Messages with contents of any kind; the others are among [`every_message`].
fn any_message() -> impl Strategy<Value = Message> {
    let chunk = (any::<(u32, u32, u64, u64, u64, u32, u64, bool)>(), vec(any::<u8>(), 0..300)).prop_map(
        |((lane, turn, call, start, count, attempt, budget_us, is_for_gpu), head)| {
            Message::Chunk(Chunk { lane, turn, call, start, count, attempt, budget_us, is_for_gpu, head })
        },
    );
    let failure = (any::<u64>(), any::<String>(), option::of(any::<String>()))
        .prop_map(|(index, message, place)| Failure { index, cause: Cause::Panicked { message, place } });
    let done = (any::<(u32, u32, u64, u64, Option<u32>, bool)>(), vec(failure, 0..4), vec(any::<u8>(), 0..300))
        .prop_map(|((lane, turn, reached, elapsed_us, worker, is_overdue), failures, head)| {
            let died = is_overdue.then_some(Died { first: reached, count: 1, exit: None, is_overdue });
            Message::Done(Done { lane, turn, reached, failures, elapsed_us, worker, died, head })
        });
    prop_oneof![
        chunk,
        done,
        any::<String>().prop_map(|reason| Message::Goodbye { reason }),
        proptest::sample::select(every_message()),
        Just(Message::Shutdown),
    ]
}

fn encoded(message: &Message, sections: &[SectionHeader], stream: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    encode(message, sections, stream, &mut frame).unwrap();
    frame
}

/// Reads one frame from its beginning.
fn read(bytes: &[u8]) -> Result<(Message, Vec<SectionHeader>), FrameError> {
    let (header, body) = bytes.split_first_chunk().unwrap();
    decode(Header::parse(*header)?.stream, body)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn headers_have_their_golden_bytes() {
    let control = Header { kind: Kind::Control, bytes: 0x0001_0203, stream: 0 };
    assert_eq!(hex(&control.to_bytes()), "01000000030201000000000000000000");
    let piece = Header { kind: Kind::Piece, bytes: MAX_PIECE_BYTES as u32, stream: 0x0102_0304_0506_0708 };
    assert_eq!(hex(&piece.to_bytes()), "02000000000004000807060504030201");
    for header in [control, piece] {
        assert_eq!(Header::parse(header.to_bytes()), Ok(header));
    }
}

#[test]
fn messages_have_their_golden_bytes() {
    let golden = include_str!("golden.txt").lines();
    let frames: Vec<_> = every_message().iter().map(|message| hex(&encoded(message, &[], 0)[HEADER_BYTES..])).collect();
    for (frame, golden) in frames.iter().zip(golden.chain(std::iter::repeat(""))) {
        assert_eq!(
            frame,
            golden,
            "the format changed; if it has to, VERSION changes too. All of it:\n{}",
            frames.join("\n")
        );
    }
}

#[test]
fn section_headers_come_behind_their_message() {
    let sections = [
        SectionHeader { element: ElementType::F64, count: 1 << 17 },
        SectionHeader { element: ElementType::U8, count: 0 },
    ];
    let frame = encoded(&Message::Shutdown, &sections, 5);
    assert_eq!(hex(&frame), "010000000800000005000000000000000f02".to_owned() + "0b808008" + "0000");
    assert_eq!(read(&frame), Ok((Message::Shutdown, sections.to_vec())));
}

#[test]
fn what_is_too_long_is_refused_and_leaves_no_trace() {
    let mut out = vec![1, 2, 3];
    let reason = "x".repeat(MAX_CONTROL_BYTES);
    let error = encode(&Message::Goodbye { reason }, &[], 0, &mut out).unwrap_err();
    assert!(matches!(error, FrameError::MessageTooLong { bytes, max: MAX_CONTROL_BYTES } if bytes > MAX_CONTROL_BYTES));
    let section = SectionHeader { element: ElementType::U8, count: 1 };
    let error = encode(&Message::Shutdown, &vec![section; MAX_SECTIONS + 1], 1, &mut out).unwrap_err();
    assert_eq!(error, FrameError::TooManySections { count: MAX_SECTIONS + 1, max: MAX_SECTIONS });
    assert_eq!(out, [1, 2, 3]);
    encode(&Message::Shutdown, &vec![section; MAX_SECTIONS], 1, &mut out).unwrap();
}

#[test]
fn what_is_not_a_frame_is_refused() {
    let frame = encoded(&Message::Shutdown, &[], 0);
    let check = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = frame.clone();
        change(&mut changed);
        read(&changed).unwrap_err()
    };
    assert!(matches!(check(&|frame| frame[0] = 3), FrameError::NotAHeader { start: [3, 0, 0, 0] }));
    assert!(matches!(check(&|frame| frame[2] = 1), FrameError::NotAHeader { .. }));
    assert!(matches!(check(&|frame| frame[7] = 1), FrameError::TooLong { max: MAX_CONTROL_BYTES, .. }));
    assert!(matches!(check(&|frame| frame[8] = 1), FrameError::WrongStream { stream: 1, count: 0 }));
    assert!(matches!(check(&|frame| frame.push(0)), FrameError::TrailingBytes { bytes: 1 }));
    assert!(matches!(check(&|frame| frame[16] = 99), FrameError::NotAMessage { .. }));
    assert!(matches!(check(&|frame| frame.truncate(17)), FrameError::NotAMessage { .. }));
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(message in any_message(), sections in any_headers(), stream in 1u64..) {
        let stream = if sections.is_empty() { 0 } else { stream };
        prop_assert_eq!(read(&encoded(&message, &sections, stream)), Ok((message, sections)));
    }

    #[test]
    fn a_part_of_a_message_is_none(message in any_message(), cut in any::<proptest::sample::Index>()) {
        let frame = encoded(&message, &[], 0);
        let cut = HEADER_BYTES + cut.index(frame.len() - HEADER_BYTES);
        prop_assert!(read(&frame[..cut]).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(stream: u64, bytes in vec(any::<u8>(), 16..400)) {
        let _ = read(&bytes);
        let _ = decode(stream, &bytes);
    }
}
