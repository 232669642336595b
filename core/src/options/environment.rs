//! Settings in `DISTFUN_*` environment variables.

use std::ffi::OsString;

use super::{
    CACHE_VARIABLE, CONFIG_VARIABLE, COOKIE_VARIABLE, CREDENTIALS_VARIABLE, Overrides, SSH_VARIABLE, SettingsError,
    table::{Raw, SETTINGS, hint},
};

/// Variables that are read elsewhere, since they are no settings.
const OTHERS: [(&str, &str); 5] = [
    ("config", CONFIG_VARIABLE),
    ("cookie", COOKIE_VARIABLE),
    ("credentials", CREDENTIALS_VARIABLE),
    ("cache", CACHE_VARIABLE),
    ("ssh", SSH_VARIABLE),
];

/// What marks a process of a slot, where functions may build distributed functions too.
const HOST: &str = "DISTFUN_HOST";

/// The variable of a setting.
pub(super) fn variable(key: &str) -> String {
    format!("DISTFUN_{}", key.to_ascii_uppercase())
}

/// What `variables` say; those of other programs are passed over.
pub(super) fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Overrides, SettingsError> {
    let mut said = Overrides::default();
    for (name, value) in variables {
        let name = name.to_string_lossy();
        if !name.starts_with("DISTFUN_") || name == HOST || OTHERS.iter().any(|(_, other)| *other == name) {
            continue;
        }
        let Some(setting) = SETTINGS.iter().find(|setting| variable(setting.key) == name) else {
            let known = SETTINGS.iter().map(|setting| setting.key).chain(OTHERS.map(|(key, _)| key));
            return Err(SettingsError::Unknown { hint: hint(&name, known, variable), name: name.into() });
        };
        let value = value.to_string_lossy();
        if let Err(expected) = setting.put(&mut said, Raw::Untyped(&value)) {
            return Err(SettingsError::Malformed { name: name.into(), value: value.into(), expected });
        }
    }
    Ok(said)
}
