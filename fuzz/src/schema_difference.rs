//! Any two texts in place of schemas: the difference is said in one short line.

use distfun_core::function::{difference, schema_of_columns, schema_of_list};

/// `data` is two texts with a zero byte between them.
///
/// # Panics
/// If the difference is not one short line, or there is one between equals.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (ours, theirs) = text.split_once('\0').unwrap_or((&text, ""));
    for (ours, theirs) in [(ours, theirs), (theirs, ours), (ours, ours)] {
        let line = difference(ours, theirs);
        assert_eq!(line.is_empty(), ours == theirs, "{line:?}");
        assert!(!line.contains(char::is_control) && line.chars().count() < 400, "{line:?}");
    }
}

/// Schemas of all shapes, each beside one that differs a little.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let schemas = [
        schema_of_list::<f64, Result<u32, String>>("item by value", 0),
        schema_of_list::<(String, Vec<u8>), Vec<Option<[i64; 3]>>>("item by reference", 3),
        schema_of_columns::<f32, u64>("Array1", 0),
        schema_of_list::<crate::payload::Tree, crate::payload::Shape>("item by value", 1),
    ];
    let mut seeds = Vec::new();
    for schema in &schemas {
        for (from, to) in
            [("fn", "fn"), ("f64", "[f64]"), ("u8", "u16"), (", ", ", more: u8, "), ("value", "reference")]
        {
            seeds.push(format!("{schema}\0{}", schema.text().replace(from, to)).into_bytes());
        }
    }
    seeds.push(b"k fn(\"a\\\"b\") -> Map<^A@2, opaque(x::Y from [u8; 3])>\0k fn(\"a\\\"b -> \xff\x1b[m".to_vec());
    seeds.sort();
    seeds.dedup();
    seeds
}
