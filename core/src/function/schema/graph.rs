//! What is known of a type while it is traced: places (a field, an element, a variant's content) and the shapes found
//! there. A shape is shared by all places of one type, so that a recursive type is a finite graph.

use std::collections::HashMap;

use super::samples::Variation;

pub(super) type PlaceId = usize;
pub(super) type ShapeId = usize;

/// What a `Deserialize` asks for, as postcard would give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A number, text, bytes.
    Plain(&'static str),
    Unit,
    Option,
    Seq,
    Map,
    Tuple(usize),
    UnitStruct(&'static str),
    Newtype(&'static str),
    TupleStruct(&'static str, usize),
    Struct(&'static str, &'static [&'static str]),
    /// The content of a variant with named fields.
    Fields(&'static [&'static str]),
    Enum(&'static str, &'static [&'static str]),
}

/// Tuples longer than this are arrays, whose further elements are as the last one.
const MAX_TUPLE_PLACES: usize = 64;

impl Kind {
    /// Among how many ways to go on there is a choice, and how many of them must all be seen: every variant of an
    /// enum, but of an option, a sequence or a map only the full one. The empty one is a way out of recursion.
    fn ways(self) -> (usize, usize) {
        match self {
            Self::Enum(_, variants) => (variants.len(), variants.len()),
            Self::Option | Self::Seq | Self::Map => (2, 1),
            _ => (0, 0),
        }
    }

    pub(super) fn is_enum(self) -> bool {
        matches!(self, Self::Enum(..))
    }
}

#[derive(Debug)]
pub(super) struct Place {
    /// Usually one; several where a type asks for one thing or another depending on what came before.
    pub(super) shapes: Vec<ShapeId>,
    /// None: as the place around it.
    pub(super) variation: Option<Variation>,
    /// No value could be made here.
    pub(super) is_stuck: bool,
    /// The name of a field was asked for, which does not travel.
    pub(super) is_identifier: bool,
    /// The Rust type.
    pub(super) type_name: &'static str,
}

#[derive(Debug)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    /// The Rust type.
    pub(super) type_name: &'static str,
    pub(super) children: Vec<PlaceId>,
    /// How many fields or variants there are in truth, once known.
    pub(super) count: Option<usize>,
    ways: Vec<Way>,
    /// The way that led to a value before any other. Following nothing but these ends even in a recursive type, since
    /// each was finished with the help of earlier ones only.
    first: Option<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Way {
    state: State,
    /// Being followed further out.
    is_open: bool,
    /// Has been followed in this run.
    is_taken: bool,
    /// There is something new somewhere behind it.
    leads_on: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum State {
    #[default]
    New,
    Done,
    Failed,
}

/// A way that is being followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Followed {
    pub(super) way: usize,
    was_open: bool,
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) places: Vec<Place>,
    pub(super) shapes: Vec<Shape>,
    by_visitor: HashMap<(Kind, &'static str), ShapeId>,
    /// Grows whenever something is learned.
    pub(super) learned: usize,
}

impl Graph {
    pub(super) fn add_place(&mut self, type_name: &'static str) -> PlaceId {
        self.places.push(Place {
            shapes: Vec::new(),
            variation: None,
            is_stuck: false,
            is_identifier: false,
            type_name,
        });
        self.places.len() - 1
    }

    /// The shape of `kind` at `place`. The name of the visitor's type tells types apart within this trace; nobody else
    /// sees it.
    pub(super) fn shape_at(
        &mut self,
        place: PlaceId,
        kind: Kind,
        visitor: &'static str,
        type_name: &'static str,
    ) -> ShapeId {
        let next = self.shapes.len();
        let id = *self.by_visitor.entry((kind, visitor)).or_insert(next);
        if id == next {
            let ways = vec![Way::default(); kind.ways().0];
            self.shapes.push(Shape { kind, type_name, children: Vec::new(), count: None, ways, first: None });
        }
        if !self.places[place].shapes.contains(&id) {
            self.places[place].shapes.push(id);
            self.learned += 1;
        }
        id
    }

    pub(super) fn child(&mut self, shape: ShapeId, position: usize) -> PlaceId {
        let position = match self.shapes[shape].kind {
            Kind::Tuple(_) | Kind::TupleStruct(..) => position.min(MAX_TUPLE_PLACES - 1),
            _ => position,
        };
        while self.shapes[shape].children.len() <= position {
            let place = self.add_place("");
            self.shapes[shape].children.push(place);
        }
        self.shapes[shape].children[position]
    }

    /// Before another run: forgets what the last one took, and finds out which ways lead to something new. Returns
    /// whether anything does.
    pub(super) fn prepare(&mut self, root: PlaceId) -> bool {
        let mut news = vec![false; self.shapes.len()];
        let mut has_changed = true;
        while std::mem::take(&mut has_changed) {
            for id in 0..self.shapes.len() {
                let is_news = |place: PlaceId| {
                    let place = &self.places[place];
                    !place.is_stuck && place.shapes.iter().any(|&shape| news[shape])
                };
                let shape = &self.shapes[id];
                let leads: Vec<bool> = match shape.kind {
                    Kind::Enum(..) => (0..shape.ways.len())
                        .map(|way| shape.children.get(way).is_some_and(|&child| is_news(child)))
                        .collect(),
                    _ => vec![shape.children.iter().any(|&child| is_news(child))],
                };
                let required = shape.kind.ways().1;
                let is_new = match required {
                    0 => leads[0],
                    _ => leads.iter().zip(&shape.ways).any(|(&leads_on, way)| match way.state {
                        State::New => true,
                        State::Done => leads_on,
                        State::Failed => false,
                    }),
                };
                has_changed |= is_new && !news[id];
                news[id] |= is_new;
                for (way, leads_on) in self.shapes[id].ways.iter_mut().zip(leads) {
                    *way = Way { state: way.state, is_open: false, is_taken: false, leads_on };
                }
            }
        }
        self.places[root].shapes.iter().any(|&shape| news[shape])
    }

    /// Chooses a way and follows it; none if each has failed or is being followed further out.
    pub(super) fn follow(&mut self, shape: ShapeId) -> Option<Followed> {
        let Shape { kind, ways, first, .. } = &mut self.shapes[shape];
        let (count, required) = kind.ways();
        let find =
            |is_good: &dyn Fn(&Way) -> bool| (0..required).find(|&way| !ways[way].is_open && is_good(&ways[way]));
        let way = find(&|way| way.state == State::New)
            .or_else(|| find(&|way| way.state == State::Done && way.leads_on && !way.is_taken))
            .or(*first)
            .or_else(|| (required..count).find(|&way| ways[way].state != State::Failed))?;
        let was_open = std::mem::replace(&mut ways[way].is_open, true);
        ways[way].is_taken = true;
        Some(Followed { way, was_open })
    }

    /// The way led to a value.
    pub(super) fn arrived(&mut self, shape: ShapeId, followed: Followed) {
        let Shape { ways, first, .. } = &mut self.shapes[shape];
        ways[followed.way].is_open = followed.was_open;
        first.get_or_insert(followed.way);
        if ways[followed.way].state == State::New {
            ways[followed.way].state = State::Done;
            self.learned += 1;
        }
    }

    /// The way led to an error; `for_good` if it will again. Returns whether there is another way.
    pub(super) fn failed(&mut self, shape: ShapeId, followed: Followed, for_good: bool) -> bool {
        let ways = &mut self.shapes[shape].ways;
        ways[followed.way].is_open = followed.was_open;
        if !for_good || ways[followed.way].state != State::New {
            return false;
        }
        ways[followed.way].state = State::Failed;
        self.learned += 1;
        ways.iter().any(|way| way.state == State::Done || way.state == State::New && !way.is_open)
    }
}
