//! Writes down what was traced. The fingerprint is taken of this text, so it never changes for a type that stays the
//! same; `tests.rs` and `fingerprint.rs` hold it still.

use std::{collections::HashMap, fmt::Write};

use super::graph::{Graph, Kind, PlaceId, Shape, ShapeId};

/// Shapes written for one function.
const MAX_WRITTEN: usize = 10_000;

pub(super) struct Writer<'g> {
    graph: &'g Graph,
    pub(super) text: String,
    /// Types that could not be looked into.
    pub(super) opaque: Vec<String>,
    /// Types with a name that have been written, by their name there.
    labels: HashMap<ShapeId, String>,
    label_counts: HashMap<&'static str, usize>,
    /// Shapes around the one that is being written.
    open: Vec<ShapeId>,
    written: usize,
}

impl<'g> Writer<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        Self {
            graph,
            text: String::new(),
            opaque: Vec::new(),
            labels: HashMap::new(),
            label_counts: HashMap::new(),
            open: Vec::new(),
            written: 0,
        }
    }

    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Writes the type at `place`; `owner` is the Rust type around it.
    pub(super) fn place(&mut self, place: PlaceId, owner: &str) {
        let found = &self.graph.places[place];
        if !found.is_stuck {
            return self.shapes(&found.shapes, owner);
        }
        let name = found.type_name;
        write!(self.text, "opaque({name}").expect("a string takes it");
        let (before, known) = (self.text.len(), self.opaque.len());
        let labels = (self.labels.clone(), self.label_counts.clone());
        if !found.shapes.is_empty() {
            self.push(" from ");
            self.shapes(&found.shapes, name);
        }
        // What is known in part only depends on where the trace gave up.
        if self.opaque.len() > known {
            self.text.truncate(before);
            self.opaque.truncate(known);
            (self.labels, self.label_counts) = labels;
        }
        self.push(")");
        self.note(name);
    }

    fn note(&mut self, name: &str) {
        if !self.opaque.iter().any(|known| known == name) {
            self.opaque.push(name.to_owned());
        }
    }

    fn shapes(&mut self, shapes: &[ShapeId], owner: &str) {
        if shapes.is_empty() {
            self.push("?");
            self.note(owner);
        }
        for (i, &shape) in shapes.iter().enumerate() {
            self.push(if i > 0 { " | " } else { "" });
            self.shape(shape, owner);
        }
    }

    fn shape(&mut self, id: ShapeId, owner: &str) {
        self.written += 1;
        if self.written > MAX_WRITTEN {
            self.push("?");
            return self.note(owner);
        }
        let shape = &self.graph.shapes[id];
        let outer = self.open.iter().rposition(|&open| open == id);
        if let Some(label) = self.labels.get(&id) {
            self.text.push_str(if outer.is_some() { "^" } else { "" });
            self.text.push_str(label);
            return;
        }
        if let Some(outer) =
            outer.filter(|&outer| !self.open[outer..].iter().any(|open| self.labels.contains_key(open)))
        {
            // A type without a name within itself and with none in between, where writing it again would never end:
            // only a `Deserialize` written by hand does this.
            let outwards = self.open.len() - outer;
            write!(self.text, "^{outwards}").expect("a string takes it");
            return;
        }
        self.open.push(id);
        self.body(id, shape);
        self.open.pop();
    }

    fn body(&mut self, id: ShapeId, shape: &'g Shape) {
        match shape.kind {
            Kind::Plain(name) => self.push(name),
            Kind::Unit => self.push("()"),
            Kind::Option => self.list("Option<", ">", shape, 1),
            Kind::Seq => self.list("[", "]", shape, 1),
            Kind::Map => self.list("Map<", ">", shape, 2),
            Kind::Tuple(len) => self.tuple(shape, len),
            Kind::UnitStruct(name) => self.label(id, name),
            Kind::Newtype("") => self.list("(", ")", shape, 1),
            Kind::Newtype(name) => {
                self.label(id, name);
                self.list("(", ")", shape, 1);
            }
            Kind::TupleStruct(name, len) => {
                self.label(id, name);
                self.tuple(shape, len);
            }
            Kind::Struct("Array", ["v", "dim", "data"]) if self.array(shape) => {}
            Kind::Struct(name, fields) => {
                self.label(id, name);
                self.fields(fields, shape);
            }
            Kind::Fields(fields) => self.fields(fields, shape),
            Kind::Enum("Result", ["Ok", "Err"]) if self.is_result(shape) => {
                let [ok, err] = [0, 1].map(|variant| self.newtype(shape.children[variant]).expect("as just seen"));
                self.push("Result<");
                self.place(ok, shape.type_name);
                self.push(", ");
                self.place(err, shape.type_name);
                self.push(">");
            }
            Kind::Enum(name, variants) => {
                self.push("enum ");
                self.label(id, name);
                self.variants(variants, shape);
            }
        }
    }

    /// Types of one name are numbered.
    fn label(&mut self, id: ShapeId, name: &'static str) {
        let count = self.label_counts.entry(name).or_default();
        *count += 1;
        let label = if *count == 1 { identifier(name) } else { format!("{}@{count}", identifier(name)) };
        self.push(&label);
        self.labels.insert(id, label);
    }

    fn child(&mut self, shape: &Shape, position: usize) {
        match shape.children.get(position) {
            Some(&place) => self.place(place, shape.type_name),
            None => self.shapes(&[], shape.type_name),
        }
    }

    fn list(&mut self, start: &str, end: &str, shape: &Shape, count: usize) {
        self.push(start);
        for position in 0..count {
            self.push(if position > 0 { ", " } else { "" });
            self.child(shape, position);
        }
        self.push(end);
    }

    fn tuple(&mut self, shape: &Shape, len: usize) {
        let shapes = |&place: &PlaceId| (&self.graph.places[place].shapes, self.graph.places[place].is_stuck);
        let mut seen = shape.children.iter().map(shapes);
        let first = seen.next();
        let is_whole = shape.children.len() >= len.min(3);
        if len >= 3 && is_whole && seen.all(|other| Some(other) == first) {
            self.push("[");
            self.child(shape, 0);
            write!(self.text, "; {len}]").expect("a string takes it");
        } else {
            let shown = len.min(shape.children.len() + 1);
            self.list("(", if shown < len { ", ..)" } else { ")" }, shape, shown);
        }
    }

    /// Whether there are fewer fields or variants than names, because `alias` adds names. Then it is unknown which name
    /// is whose, and all names come first.
    fn has_aliases(&mut self, names: &[&'static str], shape: &Shape) -> bool {
        let Some(count) = shape.count.filter(|&count| count < names.len()) else { return false };
        let names: Vec<_> = names.iter().map(|name| identifier(name)).collect();
        write!(self.text, " {{ {}: ", names.join(" / ")).expect("a string takes it");
        self.list("(", ") }", shape, count);
        true
    }

    fn fields(&mut self, fields: &[&'static str], shape: &Shape) {
        if self.has_aliases(fields, shape) {
            return;
        }
        self.push(" {");
        for (i, field) in fields.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(self.text, "{comma} {}: ", identifier(field)).expect("a string takes it");
            self.child(shape, i);
        }
        self.push(" }");
    }

    fn variants(&mut self, variants: &[&'static str], shape: &Shape) {
        if self.has_aliases(variants, shape) {
            return;
        }
        self.push(" {");
        for (i, variant) in variants.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(self.text, "{comma} {}", identifier(variant)).expect("a string takes it");
            let content = shape.children.get(i).map_or(&[][..], |&place| &self.graph.places[place].shapes);
            match content {
                [] => {
                    self.push("(?)");
                    self.note(shape.type_name);
                }
                [unit] if self.graph.shapes[*unit].kind == Kind::Unit => {}
                contents => self.shapes(contents, shape.type_name),
            }
        }
        self.push(" }");
    }

    /// Where the content of a variant is one value: its place.
    fn newtype(&self, content: PlaceId) -> Option<PlaceId> {
        let &[shape] = &self.graph.places[content].shapes[..] else { return None };
        let shape = &self.graph.shapes[shape];
        (shape.kind == Kind::Newtype("")).then(|| shape.children.first().copied())?
    }

    fn is_result(&self, shape: &Shape) -> bool {
        shape.children.len() == 2 && shape.children.iter().all(|&variant| self.newtype(variant).is_some())
    }

    /// An array of ndarray's, by what its `Deserialize` asks for.
    fn array(&mut self, shape: &Shape) -> bool {
        let only = |place: PlaceId| match self.graph.places[place].shapes[..] {
            [shape] => Some(&self.graph.shapes[shape]),
            _ => None,
        };
        let &[version, dim, data] = &shape.children[..] else { return false };
        let (Some(version), Some(dim), Some(data)) = (only(version), only(dim), only(data)) else { return false };
        if version.kind != Kind::Plain("u8") || data.kind != Kind::Seq {
            return false;
        }
        let is_index = |&place: &PlaceId| only(place).is_some_and(|index| index.kind == Kind::Plain("u64"));
        if !dim.children.iter().all(is_index) {
            return false;
        }
        let dimensions = match dim.kind {
            Kind::Seq => "D".to_owned(),
            Kind::Tuple(dimensions) => dimensions.to_string(),
            _ => return false,
        };
        self.list(&format!("Array{dimensions}<"), ">", data, 1);
        true
    }
}

/// Names with other signs, from `rename`, are quoted, so that a text means one type only.
fn identifier(name: &str) -> String {
    let is_plain = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_plain(name.strip_prefix("r#").unwrap_or(name)) { name.to_owned() } else { format!("{name:?}") }
}
