//! Fingerprints of functions' types.

/// What two builds compare: 16 bytes of BLAKE3.
pub type Fingerprint = [u8; 16];

/// The fingerprint of the text of a [`Schema`](super::Schema).
pub(super) fn of(text: &str) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..size_of::<Fingerprint>()]);
    fingerprint
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fmt::Write};

    use ndarray::Array2;

    use crate::function::{Schema, schema_of_columns, schema_of_list};

    /// Builds of different age compare fingerprints. If this fails, the text of a type has changed: functions of two
    /// builds will no longer find each other.
    #[test]
    fn fingerprints_stay_the_same() {
        #[track_caller]
        fn check(schema: Schema, text: &str, fingerprint: &str) {
            assert_eq!(schema.to_string(), text);
            let hex = schema.fingerprint().iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            assert_eq!(hex, fingerprint);
        }
        check(
            schema_of_list::<f64, Result<u32, String>>("item by value", 0),
            "item by value fn(f64) -> Result<u32, String>, version 0",
            "a7a60c9317e60984f19bf6c2d668d7e9",
        );
        check(
            schema_of_list::<Array2<f64>, Array2<f64>>("item by reference", 3),
            "item by reference fn(Array2<f64>) -> Array2<f64>, version 3",
            "173cffd6570c3c089577bfafa061e59d",
        );
        check(
            schema_of_columns::<f32, u64>("Array1", 0),
            "columns fn(ArrayView2<f32>) -> Array1<u64>, version 0",
            "54e8277c5a3b510d45686254c4c49c60",
        );
        check(
            schema_of_list::<(String, Vec<u8>), BTreeMap<String, Option<i64>>>("item by value", 0),
            "item by value fn((String, [u8])) -> Map<String, Option<i64>>, version 0",
            "42040316a9ecdc435986449bb19396c3",
        );
    }
}
