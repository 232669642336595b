//! Every distributed function of this program by name.
//!
//! `distribute!(f)` submits one [`Entry`] per call site. Several sites of one function are one function; a closure is
//! known by its place in the source, which holds within one build only.

use std::collections::BTreeSet;

use crate::node::Offered;

/// One call site of `distribute!` or `function!`.
pub struct Entry {
    /// The path of the function's type, as `std::any::type_name_of_val` gives it; and the function with its types erased,
    /// unless it can't be distributed, which the compiler says elsewhere.
    pub function: fn() -> (&'static str, Option<Offered>),
    /// `file:line:column` of the call site.
    pub site: &'static str,
}

inventory::collect!(Entry);

impl Entry {
    /// The function's name: its path, or its call site if it is a closure.
    pub fn name(&self) -> &'static str {
        let (path, _) = (self.function)();
        if path.contains("{{closure}}") { self.site } else { path }
    }
}

/// The functions of a name, each with its site.
#[cfg(target_os = "linux")]
pub(crate) fn find(name: &str) -> Vec<(&'static str, std::sync::Arc<dyn crate::node::Served>)> {
    let entries = inventory::iter::<Entry>.into_iter().filter(|entry| entry.name() == name);
    entries.filter_map(|entry| Some((entry.site, (entry.function)().1?.0))).collect()
}

/// The names of all functions that this program distributes anywhere, sorted.
pub fn function_names() -> Vec<&'static str> {
    let names: BTreeSet<_> = inventory::iter::<Entry>.into_iter().map(Entry::name).collect();
    names.into_iter().collect()
}
