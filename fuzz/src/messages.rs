//! Control frames: what can be read is the same once written and read again, and can be written.

use distfun_net::{
    frame::{self, HEADER_BYTES, MAX_SECTIONS},
    message::SectionHeader,
};

use crate::samples::{ELEMENTS, messages};

/// `data` is what follows the header of a control frame.
///
/// # Panics
/// If a message is not what it was, or is let through without keeping to the rules.
pub fn check(data: &[u8]) {
    for stream in [0, 7] {
        let (message, sections) = match frame::decode(stream, data) {
            Ok(read) => read,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        assert_eq!(stream == 0, sections.is_empty());
        assert!(sections.len() <= MAX_SECTIONS);
        let mut frame = Vec::new();
        frame::encode(&message, &sections, stream, &mut frame).expect("what was read can be written");
        let body = &frame[HEADER_BYTES..];
        assert!(body.len() <= data.len(), "the shortest form is no longer than any other");
        assert_eq!(frame::decode(stream, body), Ok((message, sections)));
    }
}

/// One of every message, without sections and with some.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let sections: Vec<_> = ELEMENTS.iter().map(|element| SectionHeader { element: *element, count: 300 }).collect();
    let mut seeds = Vec::new();
    for message in messages() {
        for (stream, sections) in [(0, &sections[..0]), (7, &sections[..])] {
            let mut frame = Vec::new();
            frame::encode(&message, sections, stream, &mut frame).expect("it is short");
            seeds.push(frame[HEADER_BYTES..].to_vec());
        }
    }
    seeds
}
