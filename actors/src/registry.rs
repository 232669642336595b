//! Every distributed function of this program by name.
//!
//! `distribute!(f)` submits one [`Entry`] per call site. Several sites of one function are one function; a closure is
//! known by its place in the source, which holds within one build only.

use std::collections::BTreeSet;

/// One call site of `distribute!` or `function!`.
#[derive(Debug)]
pub struct Entry {
    /// The path of the function's type, as `std::any::type_name_of_val` gives it.
    pub path: fn() -> &'static str,
    /// `file:line:column` of the call site.
    pub site: &'static str,
}

inventory::collect!(Entry);

impl Entry {
    /// The function's name: its path, or its call site if it is a closure.
    pub fn name(&self) -> &'static str {
        let path = (self.path)();
        if path.contains("{{closure}}") { self.site } else { path }
    }
}

/// The names of all functions that this program distributes anywhere, sorted.
pub fn function_names() -> Vec<&'static str> {
    let names: BTreeSet<_> = inventory::iter::<Entry>.into_iter().map(Entry::name).collect();
    names.into_iter().collect()
}
