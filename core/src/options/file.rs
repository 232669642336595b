//! Settings in a file in TOML: `max_cpu = 2`, one key per setting, at the top level.

use std::path::{Path, PathBuf};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Overrides, Place, SettingsError,
    table::{Raw, SETTINGS, Setting, hint},
};

/// A settings file, read by whoever knows files.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// Where it is, for messages.
    pub path: PathBuf,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Characters of a line or value that an error shows.
const SHOWN: usize = 60;

impl ConfigFile {
    /// What the file says; the first fault in it is an error.
    pub(super) fn read(&self) -> Result<Overrides, SettingsError> {
        let (path, text) = (&self.path, self.text()?);
        let table = DeTable::parse(text).map_err(|error| not_toml(path, text, &error))?.into_inner();
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut said = Overrides::default();
        for (key, value) in entries {
            let Some(setting) = find(key.get_ref()) else {
                let hint = if value.get_ref().is_table() {
                    "settings stand at the top of the file, in no table".into()
                } else {
                    hint(key.get_ref(), SETTINGS.iter().map(|setting| setting.key), str::to_owned)
                };
                let (place, key) = (Place::behind(&text[..key.span().start], path), shortened(key.get_ref()));
                return Err(SettingsError::UnknownKey { place, key, hint });
            };
            if let Err(expected) = setting.put(&mut said, raw(value.get_ref())) {
                let place = Place::behind(&text[..value.span().start], path);
                return Err(SettingsError::WrongValue { place, said: written(setting.key, value, text), expected });
            }
        }
        Ok(said)
    }

    /// Place, key and value of a setting, as the file has them, if it can be read.
    pub(super) fn written(&self, key: &str) -> Option<String> {
        let text = self.text().ok()?;
        let table = DeTable::parse(text).ok()?.into_inner();
        let value = table.get(key)?;
        Some(format!("{}: {}", Place::behind(&text[..value.span().start], &self.path), written(key, value, text)))
    }

    /// The file as text, without the byte order mark that some editors put before it.
    fn text(&self) -> Result<&str, SettingsError> {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => Ok(without_mark(text)),
            Err(error) => {
                let offset = error.valid_up_to();
                let before = String::from_utf8_lossy(&self.bytes[..offset]);
                let place = Place::behind(without_mark(&before), &self.path);
                Err(SettingsError::NotUtf8 { place, offset, byte: self.bytes[offset] })
            }
        }
    }
}

fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

fn raw<'a>(value: &'a DeValue<'_>) -> Raw<'a> {
    match value {
        DeValue::String(text) => Raw::Text(text),
        DeValue::Integer(number) => Raw::Integer { digits: number.as_str(), radix: number.radix() },
        DeValue::Boolean(yes) => Raw::Boolean(*yes),
        DeValue::Array(values) => {
            values.iter().map(|value| value.get_ref().as_str()).collect::<Option<_>>().map_or(Raw::Other, Raw::Texts)
        }
        _ => Raw::Other,
    }
}

/// Key and value as the file has them.
fn written(key: &str, value: &Spanned<DeValue<'_>>, text: &str) -> String {
    match value.get_ref() {
        DeValue::Table(_) => format!("{key} is a table, which"),
        DeValue::Array(_) => format!("{key} is an array, which"),
        _ => format!("{key} = {}", shortened(&text[value.span()])),
    }
}

fn not_toml(path: &Path, text: &str, error: &toml::de::Error) -> SettingsError {
    let at = error.span().map_or(0, |span| span.start);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or("").trim();
    // The parser can't know that `slots = two` was not meant to be a boolean.
    let setting = text[start..at].split_once('=').and_then(|(key, _)| find(key.trim()));
    let remedy = setting.map_or(String::new(), |setting| format!("; {} must be {}", setting.key, setting.expected()));
    SettingsError::NotToml {
        place: Place::behind(&text[..at], path),
        message: error.message().into(),
        line: shortened(line),
        remedy,
    }
}

/// The first line of a text, if that is not too long, and without what a terminal would obey.
fn shortened(text: &str) -> String {
    let shown: String = text.chars().take_while(|&c| c == '\t' || !c.is_control()).take(SHOWN).collect();
    if shown.len() < text.len() { shown + "…" } else { shown }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: impl Into<Vec<u8>>) -> Result<Overrides, SettingsError> {
        ConfigFile { path: "/etc/distfun.toml".into(), bytes: bytes.into() }.read()
    }

    #[test]
    fn a_file_may_be_empty_start_with_a_byte_order_mark_end_lines_as_windows_does_and_use_any_number_of_toml() {
        for empty in ["", "\n", "# slots = 2\n", "\u{feff}"] {
            assert_eq!(format!("{:?}", read(empty).unwrap()), format!("{:?}", Overrides::default()));
        }
        for text in [
            "slots = 2\nseed = 16\n",
            "\u{feff}slots = 2\r\nseed = 16\r\n",
            "\"slots\" = +2\nseed = 0x10",
            "seed = 1_6 # of the numbers\n\n  slots=2",
        ] {
            let said = read(text).unwrap();
            assert_eq!((said.slots, said.seed, said.verbose), (Some(2), Some(16), None), "{text:?}");
        }
        assert_eq!(read(format!("seed = {}", u64::MAX)).unwrap().seed, Some(u64::MAX));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_its_key_its_value_and_what_it_must_be() {
        let not_toml = "string values must be quoted";
        for (text, expected) in [
            // Not TOML.
            (
                "seed = 1\nslots =",
                format!("2:8: {not_toml}, expected literal string, in `slots =`; slots must be a whole"),
            ),
            (
                "\u{feff}  slots = two\nseed = 1",
                "1:11: invalid boolean, expected `true`, in `slots = two`; slots must be a whole number".into(),
            ),
            ("seed = 1\r\n\r\nslots 2\r\n", "3:7: key with no value, expected `=`, in `slots 2`".into()),
            ("slots = 1\n# more\nslots = 2", "3:1: duplicate key, in `slots = 2`".into()),
            ("slots = 1\rseed = 2", "1:11: carriage return must be followed by newline".into()),
            ("priority = low", "1:12: string values must be quoted".into()),
            // Keys.
            ("seed = 1\n  max_cpus = 2", "2:3: max_cpus is not a setting of distfun; did you mean max_cpu?".into()),
            ("max-cpu = 2", "1:1: max-cpu is not a setting of distfun; did you mean max_cpu?".into()),
            ("DISTFUN_SEED = 2", "1:1: DISTFUN_SEED is not a setting of distfun; did you mean seed?".into()),
            (
                "colour = 'ü'\nbar = 1",
                "1:1: colour is not a setting of distfun; known are max_cpu, slots, max_gpu".into(),
            ),
            ("\"a\\nb\" = 1", "1:1: a… is not a setting of distfun; known are".into()),
            ("[distfun]\nslots = 2", "1:2: distfun is not a setting of distfun; settings stand at the top".into()),
            // The first fault in the file, not in the alphabet.
            ("zeal = 1\narm = 1", "1:1: zeal is not a setting".into()),
            // Values.
            ("max_cpu = \"two\"", "1:11: max_cpu = \"two\" is not a whole number, 0 or more".into()),
            ("max_cpu = -2", "1:11: max_cpu = -2 is not a whole number, 0 or more".into()),
            ("max_cpu = 2.0", "1:11: max_cpu = 2.0 is not a whole number, 0 or more".into()),
            ("max_cpu = 2026-01-01", "1:11: max_cpu = 2026-01-01 is not a whole number, 0 or more".into()),
            ("max_calls = 0", "1:13: max_calls = 0 is not a whole number, 1 or more".into()),
            ("\n\n slots=4097", "3:8: slots = 4097 is not a whole number from 0 to 4096".into()),
            ("slots = 0x1001", "1:9: slots = 0x1001 is not a whole number from 0 to 4096".into()),
            ("seed = -1", "1:8: seed = -1 is not a whole number, 0 or more".into()),
            (
                "seed = 18446744073709551616",
                "1:8: seed = 18446744073709551616 is not a whole number from 0 to 18446744073709551615".into(),
            ),
            ("verbose = \"yes\"", "1:11: verbose = \"yes\" is not true or false".into()),
            ("endaftercall = 1", "1:16: endaftercall = 1 is not true or false".into()),
            ("priority = \"top\"", "1:12: priority = \"top\" is not \"low\", \"normal\" or \"high\"".into()),
            ("priority = 1", "1:12: priority = 1 is not \"low\", \"normal\" or \"high\"".into()),
            ("[slots]\na = 1", "1:1: slots is a table, which is not a whole number from 0 to 4096".into()),
            ("seed = { a = 1 }", "1:8: seed is a table, which is not a whole number, 0 or more".into()),
            ("verbose.a = 1", "1:1: verbose is a table, which is not true or false".into()),
            ("slots = [1]", "1:9: slots is an array, which is not a whole number from 0 to 4096".into()),
            ("machines = 3", "1:12: machines = 3 is not a list of machines, as in [\"bob\", \"ann:2719\"]".into()),
            ("machines = ['a', 1]", "1:12: machines is an array, which is not a list of machines, as".into()),
            ("port = 0", "1:8: port = 0 is not a whole number from 1 to 65535".into()),
            ("isolation = 'none'", "1:13: isolation = 'none' is not \"thread\" or \"process\"".into()),
            (
                "item_timeout = 3",
                "1:16: item_timeout = 3 is not a length of time, as in \"500ms\", \"2.5s\", \"10".into(),
            ),
            ("max_memory = '1 GB'", "1:14: max_memory = '1 GB' is not a number of bytes, as in 1000000 or".into()),
            ("max_memory = true", "1:14: max_memory = true is not a number of bytes".into()),
            ("item_timeout = '-1s'", "1:16: item_timeout = '-1s' is not a length of time".into()),
            ("named_pipe = 1", "1:14: named_pipe = 1 is not true, false, or the name of a local socket in q".into()),
            (
                "priority = 'a\u{1b}[2J'",
                "1:14: invalid literal string, expected non-single-quote visible characters, in `priority = 'a…`"
                    .into(),
            ),
            ("slots = '''\na\nb'''", "1:9: slots = '''… is not a whole number".into()),
        ] {
            let error = read(text).unwrap_err().to_string();
            let expected = format!("/etc/distfun.toml:{expected}");
            assert!(error.starts_with(&expected), "{text:?}\nis:     {error}\nnot:    {expected}");
        }
    }

    #[test]
    fn a_file_of_another_encoding_is_named_with_the_byte_that_is_wrong() {
        let error = read(b"seed = 1\n# caf\xe9\nslots = 2".to_vec()).unwrap_err().to_string();
        assert_eq!(error, "/etc/distfun.toml:2:6: byte 14 of the file (0xe9) is not UTF-8; save it as UTF-8");
        let error = read(b"\xef\xbb\xbfa\xff".to_vec()).unwrap_err().to_string();
        assert!(error.starts_with("/etc/distfun.toml:1:2: byte 4 of the file (0xff)"), "{error}");
        // Columns are characters, offsets bytes.
        let error = read(b"# \xc3\xa9\xff".to_vec()).unwrap_err().to_string();
        assert!(error.starts_with("/etc/distfun.toml:1:4: byte 4 of the file (0xff)"), "{error}");
        // As Windows writes "Unicode".
        let error = read(b"\xff\xfes\0".to_vec()).unwrap_err().to_string();
        assert_eq!(error, "/etc/distfun.toml:1:1: byte 0 of the file (0xff) is not UTF-8; save it as UTF-8");
    }

    #[test]
    fn long_lines_are_shortened() {
        let error = read(format!("seed = \"{}\"", "é".repeat(10_000))).unwrap_err().to_string();
        assert!(error.chars().count() < 200 && error.contains("é… is not a whole number"), "{error}");
        let error = read("é".repeat(10_000)).unwrap_err().to_string();
        assert!(error.chars().count() < 300, "{error}");
    }

    proptest! {
        #[test]
        fn nothing_that_a_file_may_hold_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Err(error) = read(bytes) {
                prop_assert!(error.to_string().starts_with("/etc/distfun.toml:"));
            }
        }

        #[test]
        fn nothing_that_looks_like_toml_makes_the_reader_panic(text in "([a-z_.]{0,4}|slots|seed|=|\"|'|\\[|\\]|\\{|\\}|[0-9]|-|\n|\r| |é|\u{feff}|#|,){0,24}") {
            if let Err(error) = read(text) {
                prop_assert!(error.to_string().starts_with("/etc/distfun.toml:"));
            }
        }
    }
}
