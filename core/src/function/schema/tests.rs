//! What types look like as text.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    marker::PhantomData,
    net::{IpAddr, SocketAddr},
    num::{NonZeroI64, NonZeroU32},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use ndarray::{Array0, Array1, Array2, Array3, ArrayD};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use super::*;

#[track_caller]
fn check<T: DeserializeOwned>(expected: &str) {
    let schema = trace::<T>();
    assert_eq!(schema.text(), expected);
    assert_eq!(schema.opaque(), [""; 0]);
}

/// Checks a type that can't be looked into; `names` end as given.
#[track_caller]
fn check_opaque<T: DeserializeOwned>(expected: &str, names: &[&str]) {
    let schema = trace::<T>();
    assert_eq!(schema.text().replace(concat!(module_path!(), "::"), ""), expected);
    assert_eq!(schema.opaque().len(), names.len(), "{:?}", schema.opaque());
    for (name, end) in schema.opaque().iter().zip(names) {
        assert!(name.ends_with(end), "{name}");
    }
}

#[derive(Deserialize)]
struct Point {
    #[allow(dead_code)]
    x: f64,
    #[allow(dead_code)]
    y: f64,
}

#[test]
fn plain_types() {
    check::<()>("()");
    check::<bool>("bool");
    check::<(i8, i16, i32, i64, i128)>("(i8, i16, i32, i64, i128)");
    check::<(u8, u16, u32, u64, u128)>("(u8, u16, u32, u64, u128)");
    check::<(f32, f64)>("(f32, f64)");
    check::<(usize, isize)>("(u64, i64)");
    check::<(char, String, Box<str>)>("(char, String, String)");
    check::<PathBuf>("String");
    check::<(NonZeroU32, NonZeroI64)>("(u32, i64)");
    check::<std::num::Wrapping<u8>>("u8");
    check::<std::ffi::CString>("bytes");
}

#[test]
fn containers() {
    check::<Vec<f64>>("[f64]");
    check::<Vec<Vec<Option<f32>>>>("[[Option<f32>]]");
    check::<HashSet<u8>>("[u8]");
    check::<[f64; 0]>("()");
    check::<[f64; 2]>("(f64, f64)");
    check::<[[f64; 3]; 4]>("[[f64; 3]; 4]");
    check::<(f64, f64, u8)>("(f64, f64, u8)");
    check::<HashMap<String, BTreeMap<u8, Point>>>("Map<String, Map<u8, Point { x: f64, y: f64 }>>");
    check::<Option<Option<()>>>("Option<Option<()>>");
    check::<Result<Result<u8, ()>, String>>("Result<Result<u8, ()>, String>");
    check::<Box<Box<f64>>>("f64");
    check::<PhantomData<f64>>("PhantomData");
    check::<std::ops::Range<u32>>("Range { start: u32, end: u32 }");
    check::<std::ops::Bound<u32>>("enum Bound { Unbounded, Included(u32), Excluded(u32) }");
    check::<Duration>("Duration { secs: u64, nanos: u32 }");
    check::<SystemTime>("SystemTime { secs_since_epoch: u64, nanos_since_epoch: u32 }");
    check::<IpAddr>("enum IpAddr { V4([u8; 4]), V6([u8; 16]) }");
    check::<Option<SocketAddr>>("Option<enum SocketAddr { V4(([u8; 4], u16)), V6(([u8; 16], u16)) }>");
}

#[test]
fn arrays_of_ndarray_are_recognised_wherever_they_are() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Model {
        weights: Array2<f32>,
        history: Vec<Array1<f64>>,
        again: Array2<f32>,
    }
    check::<Array0<f64>>("Array0<f64>");
    check::<Array1<f64>>("Array1<f64>");
    check::<ndarray::ArcArray2<u8>>("Array2<u8>");
    check::<(Array3<bool>, ArrayD<i64>)>("(Array3<bool>, ArrayD<i64>)");
    check::<Array2<Point>>("Array2<Point { x: f64, y: f64 }>");
    check::<Array1<Array1<f64>>>("Array1<Array1<f64>>");
    check::<Option<Model>>("Option<Model { weights: Array2<f32>, history: [Array1<f64>], again: Array2<f32> }>");
}

#[test]
fn own_types() {
    #[derive(Deserialize)]
    struct Unit;
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Id(u64);
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Pair(Id, Option<Id>);
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Inner {
        A,
        B(Vec<Inner2>),
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Inner2 {
        P(u8),
        Q,
        R { last: char },
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Shape {
        Empty,
        Circle(f64),
        Box(f64, f64),
        Named { name: String, inner: Inner },
        Two((u8, u16)),
    }
    check::<Unit>("Unit");
    check::<Pair>("Pair(Id(u64), Option<Id>)");
    check::<(Shape, Shape)>(
        "(enum Shape { Empty, Circle(f64), Box(f64, f64), Named { name: String, inner: \
         enum Inner { A, B([enum Inner2 { P(u8), Q, R { last: char } }]) } }, Two((u8, u16)) }, Shape)",
    );
    check::<[Point; 3]>("[Point { x: f64, y: f64 }; 3]");
}

#[test]
fn types_of_one_name_are_told_apart() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Wrapper<T>(T);
    check::<(Wrapper<u8>, Wrapper<Wrapper<u16>>, Wrapper<u16>, Wrapper<u8>)>(
        "(Wrapper(u8), Wrapper@2(Wrapper@3(u16)), Wrapper@3, Wrapper)",
    );
}

#[test]
fn recursive_types_end() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Tree {
        children: Vec<Tree>,
        value: f64,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Link {
        next: Option<Box<Link>>,
        named: HashMap<String, Link>,
        end: u8,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Expression {
        Sum(Box<Expression>, Box<Expression>),
        Call { name: String, arguments: Vec<Term> },
        Number(f64),
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Term {
        Of(Box<Expression>),
        List(Vec<Term>),
        None,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Endless {
        next: Box<Endless>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Loop {
        Again(Box<Loop>),
    }
    check::<Tree>("Tree { children: [^Tree], value: f64 }");
    check::<Link>("Link { next: Option<^Link>, named: Map<String, ^Link>, end: u8 }");
    check::<Expression>(
        "enum Expression { Sum(^Expression, ^Expression), Call { name: String, arguments: \
         [enum Term { Of(^Expression), List([^Term]), None }] }, Number(f64) }",
    );
    check_opaque::<Endless>(
        "Endless { next: opaque(alloc::boxed::Box<recursive_types_end::Endless> from ^Endless) }",
        &["Endless>"],
    );
    check::<Loop>("enum Loop { Again(^Loop) }");

    struct Nest;
    impl<'de> Deserialize<'de> for Nest {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Vec::<Nest>::deserialize(deserializer).map(|_| Nest)
        }
    }
    check::<Vec<Nest>>("[^1]");
}

#[test]
fn changes_are_noticed() {
    mod before {
        #[derive(serde::Deserialize)]
        #[allow(dead_code)]
        pub(super) struct Config {
            pub(super) scale: f64,
            pub(super) count: u32,
        }
        #[derive(serde::Deserialize)]
        pub(super) enum Step {
            Stop,
            Go,
        }
    }
    macro_rules! differs {
        ($name:ident, $before:ty, $(#[$attribute:meta])* $($item:tt)*) => {{
            #[derive(Deserialize)]
            #[allow(dead_code)]
            $(#[$attribute])*
            $($item)*
            let (ours, theirs) = (schema_of_list::<$before, ()>("k", 0), schema_of_list::<$name, ()>("k", 0));
            assert_ne!(ours.fingerprint(), theirs.fingerprint());
            difference(ours.text(), theirs.text())
        }};
    }
    let field = differs!(
        Config,
        before::Config,
        struct Config {
            factor: f64,
            count: u32,
        }
    );
    assert_eq!(field, "argument, in `Config`, field `scale` here, field `factor` there");
    let number = differs!(
        Config,
        before::Config,
        struct Config {
            scale: f64,
            count: u64,
        }
    );
    assert_eq!(number, "argument, in `Config`, field `count`: u32 here, u64 there");
    let order = differs!(
        Config,
        before::Config,
        struct Config {
            count: u32,
            scale: f64,
        }
    );
    assert_eq!(order, "argument, in `Config`, field `scale` here, field `count` there");
    let variants = differs!(
        Step,
        before::Step,
        enum Step {
            Go,
            Stop,
        }
    );
    assert_eq!(variants, "argument, in `Step`, Stop here, Go there");
    let more = differs!(
        Step,
        before::Step,
        enum Step {
            Stop,
            Go,
            Wait(u8),
        }
    );
    assert_eq!(more, "argument, in `Step`, nothing more here, Wait(u8) there");
    let name = differs!(
        Settings,
        before::Config,
        struct Settings {
            scale: f64,
            count: u32,
        }
    );
    assert_eq!(name, "argument, Config { scale: f64, count: u32 } here, Settings { scale: f64, count: u32 } there");

    let versions = [1, 2].map(|version| schema_of_list::<u8, u8>("k", version));
    assert_ne!(versions[0].fingerprint(), versions[1].fingerprint());
    assert_ne!(schema_of_list::<u8, u8>("a", 1).fingerprint(), schema_of_list::<u8, u8>("b", 1).fingerprint());
}

#[test]
fn derive_attributes_never_stop_the_trace() {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    #[allow(dead_code)]
    struct Renamed {
        #[serde(rename = "a, b")]
        one: u8,
        #[serde(skip)]
        two: u8,
        #[serde(alias = "drei")]
        three: u16,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    #[allow(dead_code)]
    enum Variants {
        FirstOne,
        #[serde(skip)]
        Skipped,
        #[serde(other)]
        Last,
    }
    #[derive(Deserialize)]
    #[serde(transparent)]
    #[allow(dead_code)]
    struct Transparent {
        only: u8,
    }
    #[derive(Deserialize)]
    #[serde(from = "u8")]
    struct From1;
    impl From<u8> for From1 {
        fn from(_: u8) -> Self {
            Self
        }
    }
    #[derive(Deserialize)]
    #[serde(tag = "kind")]
    #[allow(dead_code)]
    enum Internal {
        A { x: u8 },
        B,
    }
    #[derive(Deserialize)]
    #[serde(tag = "t", content = "c")]
    #[allow(dead_code)]
    enum Adjacent {
        A { x: u8 },
        B(f64),
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code)]
    enum Untagged {
        A(u8),
        B(String),
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Flat {
        a: u8,
        #[serde(flatten)]
        point: Option<Point>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Holder {
        before: u8,
        untagged: Option<Untagged>,
        list: Vec<Internal>,
        after: f64,
        same: Option<Untagged>,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Aliased {
        A(u8),
        #[serde(alias = "Bee")]
        B,
        C(char),
    }
    check::<Renamed>("Renamed { \"a, b\" / drei / three: (u8, u16) }");
    check::<Aliased>("enum Aliased { A / B / Bee / C: ((u8), (), (char)) }");
    check::<Variants>("enum Variants { \"first-one\", last }");
    check::<Transparent>("u8");
    check::<From1>("u8");
    check_opaque::<Internal>("opaque(derive_attributes_never_stop_the_trace::Internal)", &["Internal"]);
    check_opaque::<Adjacent>("opaque(derive_attributes_never_stop_the_trace::Adjacent)", &["Adjacent"]);
    check_opaque::<Untagged>("opaque(derive_attributes_never_stop_the_trace::Untagged)", &["Untagged"]);
    check_opaque::<Flat>("opaque(derive_attributes_never_stop_the_trace::Flat)", &["Flat"]);
    check_opaque::<Holder>(
        "Holder { before: u8, untagged: Option<opaque(derive_attributes_never_stop_the_trace::Untagged)>, list: \
         [opaque(derive_attributes_never_stop_the_trace::Internal)], after: f64, same: \
         Option<opaque(derive_attributes_never_stop_the_trace::Untagged)> }",
        &["Untagged", "Internal"],
    );
}

/// A type with a check of its own, written as people write it with `try_from`.
macro_rules! checked {
    ($($name:ident($from:ty) |$value:pat_param| $is_good:expr;)*) => {$(
        struct $name;
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let $value = <$from>::deserialize(deserializer)?;
                if $is_good { Ok($name) } else { Err(D::Error::custom("refused")) }
            }
        }
    )*};
}

#[derive(Deserialize)]
struct Raw {
    low: f64,
    high: f64,
}

checked! {
    Zero(u8) |x| x == 0;
    Day(String) |x| x.len() == 10 && x.starts_with("2000");
    Address(String) |x| x.parse::<IpAddr>().is_ok();
    Rising(Raw) |x| x.low < x.high;
    Falling(Vec<u32>) |x| x.len() > 2 && x.is_sorted_by(|a, b| a > b);
    Nothing(Vec<u8>) |x| x.is_empty();
    Key([u8; 32]) |x| x == [2; 32];
    Never(String) |_| false;
    NeverRaw(Raw) |_| false;
    Panics(u8) |x| !format!("{}", [x][1 + usize::from(x)]).is_empty();
}

#[test]
fn values_are_tried_until_one_is_taken() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct All {
        zero: Zero,
        day: Option<Day>,
        address: Vec<Address>,
        rising: Rising,
        falling: Falling,
        nothing: HashMap<Day, Nothing>,
        key: Key,
        one: NonZeroU32,
    }
    check::<All>(
        "All { zero: u8, day: Option<String>, address: [String], rising: Raw { low: f64, high: f64 }, falling: [u32], \
         nothing: Map<String, [u8]>, key: [u8; 32], one: u32 }",
    );
}

impl PartialEq for Day {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Day {}
impl std::hash::Hash for Day {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

#[test]
fn what_refuses_everything_or_panics_is_opaque() {
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Holder {
        before: u8,
        list: Vec<Never>,
        option: Option<NeverRaw>,
        after: f32,
        cut: Panics,
        lost: u8,
    }
    #[derive(Deserialize)]
    #[allow(dead_code)]
    enum Variants {
        Good(u8),
        Bad(Never),
        Worse { x: u8, bad: Panics },
        Last(u16),
    }
    struct DropsBadly;
    impl<'de> Deserialize<'de> for DropsBadly {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            u8::deserialize(deserializer).map(|_| DropsBadly)
        }
    }
    impl Drop for DropsBadly {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    check_opaque::<Never>("opaque(Never from String)", &["Never"]);
    check_opaque::<Panics>("opaque(Panics from u8)", &["Panics"]);
    check_opaque::<DropsBadly>(
        "opaque(what_refuses_everything_or_panics_is_opaque::DropsBadly from u8)",
        &["DropsBadly"],
    );
    check_opaque::<Holder>(
        "Holder { before: u8, list: [opaque(Never from String)], option: \
         Option<opaque(NeverRaw from Raw { low: f64, high: f64 })>, after: f32, cut: opaque(Panics from u8), lost: ? }",
        &["Never", "NeverRaw", "Panics", "Holder"],
    );
    check_opaque::<Variants>(
        "enum Variants { Good(u8), Bad(opaque(Never from String)), Worse { x: u8, bad: opaque(Panics from u8) }, \
         Last(u16) }",
        &["Never", "Panics"],
    );
}

#[test]
fn content_may_depend_on_a_tag_before_it() {
    #[derive(Deserialize)]
    enum Tag {
        Number,
        Text,
    }
    struct Tagged;
    impl<'de> Deserialize<'de> for Tagged {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Either;
            impl<'de> Visitor<'de> for Either {
                type Value = Tagged;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a tag and its content")
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Tagged, A::Error> {
                    match seq.next_element()?.ok_or_else(|| A::Error::custom("no tag"))? {
                        Tag::Number => seq.next_element::<f64>()?.map(drop),
                        Tag::Text => seq.next_element::<String>()?.map(drop),
                    };
                    Ok(Tagged)
                }
            }
            deserializer.deserialize_tuple(2, Either)
        }
    }
    check::<Vec<Tagged>>("[(enum Tag { Number, Text }, f64 | String)]");
}

#[test]
fn hostile_deserialize_ends() {
    /// Asks for elements for ever, whatever the answer.
    struct Greedy;
    impl<'de> Deserialize<'de> for Greedy {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Greed;
            impl<'de> Visitor<'de> for Greed {
                type Value = Greedy;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("everything")
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Greedy, A::Error> {
                    while seq.next_element::<u8>()?.is_some() {}
                    Ok(Greedy)
                }
            }
            deserializer.deserialize_tuple(usize::MAX, Greed)
        }
    }
    /// 2 to the power of 20 values.
    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Twice<T>(Box<T>, Box<T>);
    type Four<T> = Twice<Twice<Twice<Twice<T>>>>;
    type Wide = Four<Four<Four<Four<Four<u8>>>>>;
    /// Falls back to a default whatever the error.
    struct Swallows;
    impl<'de> Deserialize<'de> for Swallows {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let _ = <(Never, u8)>::deserialize(deserializer);
            Ok(Swallows)
        }
    }
    assert!(!trace::<Greedy>().opaque().is_empty());
    assert!(!trace::<Wide>().opaque().is_empty());
    check_opaque::<(Swallows, u16)>("((opaque(Never from String), ?), u16)", &["Never", "tests::Never, u8)"]);
}

#[test]
fn the_argument_and_the_result_share_definitions() {
    let schema = schema_of_list::<Point, Vec<Point>>("item by value", 2);
    assert_eq!(schema.text(), "item by value fn(Point { x: f64, y: f64 }) -> [Point], version 2");
    let schema = schema_of_columns::<f64, Never>("Array2", 0);
    assert!(schema.text().starts_with("columns fn(ArrayView2<f64>) -> Array2<opaque("), "{schema}");
    assert_eq!(schema.opaque().len(), 1);
}
