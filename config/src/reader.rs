//! Reading fields out of JSON, collecting every error with the path of its field.
//!
//! A [`Node`] is a value with its path, a [`Fields`] an object whose fields are taken one by one;
//! what was not taken is reported as unknown when it is finished. Readers return `None` after
//! noting an error, so that reading goes on and all errors of an object are found at once.
//!
//! The same readers also tell their own schema: run on a [`Sketch`] instead of a value, each call
//! notes what it would have asked for. So a field is declared once, where it is read.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::error::FieldError;
use crate::sketch::{Shape, Sketch, Text};

/// What a reader sees while it is asked for its schema.
static NOTHING: Value = Value::Null;
static NO_FIELDS: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

/// Errors kept per object; what is beyond is counted.
const MAX_ERRORS: usize = 50;

/// Where errors are collected.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    list: RefCell<Vec<FieldError>>,
    beyond: Cell<usize>,
}

impl Errors {
    pub(crate) fn add(&self, field: &str, message: impl Into<String>) {
        let mut list = self.list.borrow_mut();
        if list.len() < MAX_ERRORS {
            list.push(FieldError::new(field, message));
        } else {
            self.beyond.set(self.beyond.get() + 1);
        }
    }

    fn is_full(&self) -> bool {
        self.list.borrow().len() >= MAX_ERRORS
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    pub(crate) fn into_vec(self) -> Vec<FieldError> {
        let mut list = self.list.into_inner();
        if self.beyond.get() > 0 {
            list.push(FieldError::whole(format!(
                "and {} more errors",
                self.beyond.get()
            )));
        }
        list
    }
}

/// A value and the path that leads to it.
pub(crate) struct Node<'a> {
    path: String,
    value: &'a Value,
    errors: &'a Errors,
    sketch: Option<&'a Sketch>,
}

impl<'a> Node<'a> {
    pub(crate) fn root(value: &'a Value, errors: &'a Errors) -> Self {
        Self {
            path: String::new(),
            value,
            errors,
            sketch: None,
        }
    }

    /// Notes the shape that is asked for; whether that is all there is to do.
    fn sketched(&self, shape: impl FnOnce() -> Shape) -> bool {
        if let Some(sketch) = self.sketch {
            sketch.note(&self.path, shape());
        }
        self.sketch.is_some()
    }

    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    /// Notes an error about this value.
    pub(crate) fn error<T>(&self, message: impl Into<String>) -> Option<T> {
        self.errors.add(&self.path, message);
        None
    }

    pub(crate) fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        let hint = match (self.value, expected) {
            (Value::String(text), "an integer") if text.parse::<i64>().is_ok() => {
                "; write it without quotes"
            }
            (Value::String(text), "true or false") if matches!(&**text, "true" | "false") => {
                "; write it without quotes"
            }
            (Value::Number(_) | Value::Bool(_), "a string") => "; put it in quotes",
            _ => "",
        };
        self.error(format!("{} is not {expected}{hint}", describe(self.value)))
    }

    pub(crate) fn string(&self) -> Option<&'a str> {
        self.text(Text::Any)
    }

    /// A string of a form that the schema can tell; the caller checks it.
    pub(crate) fn text(&self, form: Text) -> Option<&'a str> {
        if self.sketched(|| Shape::Text(form)) {
            return None;
        }
        match self.value {
            Value::String(text) => Some(text),
            _ => self.wrong_type("a string"),
        }
    }

    /// A string that is not empty.
    pub(crate) fn name(&self) -> Option<&'a str> {
        match self.text(Text::Filled)? {
            "" => self.error("must not be empty"),
            text => Some(text),
        }
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        if self.sketched(|| Shape::Boolean) {
            return None;
        }
        match self.value {
            Value::Bool(value) => Some(*value),
            _ => self.wrong_type("true or false"),
        }
    }

    /// An integer in a range, in the type the range is given in.
    pub(crate) fn integer<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + Into<i64> + PartialOrd + std::fmt::Display + Copy,
    {
        let (least, most) = (*range.start(), *range.end());
        if self.sketched(|| Shape::Integer(least.into(), most.into())) {
            return None;
        }
        let Value::Number(number) = self.value else {
            return self.wrong_type("an integer");
        };
        if number.is_f64() {
            return self.wrong_type("an integer");
        }
        let value = number.as_i64().and_then(|value| T::try_from(value).ok());
        match value {
            Some(value) if range.contains(&value) => Some(value),
            _ => self.error(format!(
                "{number} is not in {}-{}",
                range.start(),
                range.end()
            )),
        }
    }

    /// Either an integer in a range or a text of a form; the caller reads which.
    pub(crate) fn integer_or_text(&self, range: RangeInclusive<u16>, form: Text) -> Option<()> {
        let (least, most) = (*range.start(), *range.end());
        let sketched = self.sketched(|| Shape::IntegerOrText(least.into(), most.into(), form));
        (!sketched).then_some(())
    }

    /// A string that parses as `T`, which the form describes ("an IPv4 address").
    pub(crate) fn parsed<T: FromStr>(&self, form: Text) -> Option<T> {
        let text = self.text(form)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(_) => self.error(format!("{} is not {}", quote(text), form.what())),
        }
    }

    /// An address that can belong to a host: unspecified and multicast ones are refused.
    pub(crate) fn host_address<T: FromStr + Into<IpAddr> + Copy>(&self, form: Text) -> Option<T> {
        let addr: T = self.parsed(form)?;
        let ip: IpAddr = addr.into();
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return self.error(format!("\"{ip}\" cannot be the address of a host"));
        }
        Some(addr)
    }

    /// A value of which the schema can say no more than `schema` does; the caller reads it. Nothing while
    /// the schema is being made.
    pub(crate) fn value_as(&self, schema: impl FnOnce() -> Value) -> Option<&'a Value> {
        (!self.sketched(|| Shape::As(schema()))).then_some(self.value)
    }

    /// A switch of something that is not carried out: it may be off. `why` says what is missing.
    pub(crate) fn only_off(&self, why: &str) -> Option<()> {
        let schema = || serde_json::json!({"type": "boolean", "enum": [false]});
        match self.value_as(schema)? {
            Value::Bool(false) => Some(()),
            Value::Bool(true) => self.error(why),
            _ => self.wrong_type("true or false"),
        }
    }

    /// A name of something that is not carried out: it may be empty. `why` says what is missing.
    pub(crate) fn only_empty(&self, why: &str) -> Option<()> {
        let schema = || serde_json::json!({"type": "string", "maxLength": 0});
        match self.value_as(schema)? {
            Value::String(text) if text.is_empty() => Some(()),
            Value::String(_) => self.error(why),
            _ => self.wrong_type("a string"),
        }
    }

    /// One of a fixed set of words.
    pub(crate) fn one_of<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        if self.sketched(|| Shape::OneOf(words.iter().map(|(word, _)| *word).collect())) {
            return None;
        }
        let text = self.string()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let one_of = if all.len() > 1 { "one of " } else { "" };
        self.error(format!("{} is not {one_of}{}", quote(text), all.join(", ")))
    }

    /// The items of a list of at most `max`, each read by `read`; items with errors are left
    /// out. The bound is what keeps the cost of one object small.
    pub(crate) fn list<T>(
        &self,
        max: usize,
        read: impl FnMut(Node<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.read_list(0, max, read)
    }

    /// A list of at least one item, which `what` describes ("interface").
    pub(crate) fn list_of_some<T>(
        &self,
        max: usize,
        what: &str,
        read: impl FnMut(Node<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = self.read_list(1, max, read)?;
        if self.value.as_array().is_some_and(Vec::is_empty) {
            return self.error(format!("names no {what}"));
        }
        Some(items)
    }

    fn read_list<T>(
        &self,
        min: usize,
        max: usize,
        mut read: impl FnMut(Node<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        if self.sketched(|| Shape::List(min, max)) {
            read(Node {
                path: format!("{}[]", self.path),
                value: &NOTHING,
                errors: self.errors,
                sketch: self.sketch,
            });
            return None;
        }
        let Value::Array(items) = self.value else {
            return self.wrong_type("a list");
        };
        if items.len() > max {
            return self.error(format!("{} items are more than {max}", items.len()));
        }
        let read_item = |(index, value)| {
            read(Node {
                path: format!("{}[{index}]", self.path),
                value,
                errors: self.errors,
                sketch: None,
            })
        };
        Some(items.iter().enumerate().filter_map(read_item).collect())
    }

    pub(crate) fn object(&self) -> Option<Fields<'a>> {
        let fields = |map| Fields {
            path: self.path.clone(),
            map,
            errors: self.errors,
            taken: RefCell::default(),
            sketch: self.sketch,
        };
        if self.sketched(|| Shape::Object) {
            return Some(fields(&NO_FIELDS));
        }
        match self.value {
            Value::Object(map) => Some(fields(map)),
            _ => self.wrong_type("an object"),
        }
    }
}

/// An object whose fields are being read.
pub(crate) struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
    errors: &'a Errors,
    taken: RefCell<Vec<&'static str>>,
    sketch: Option<&'a Sketch>,
}

impl<'a> Fields<'a> {
    /// The fields of an object of which there is only the sketch to come.
    pub(crate) fn sketched(sketch: &'a Sketch, errors: &'a Errors) -> Self {
        sketch.note("", Shape::Object);
        Self {
            path: String::new(),
            map: &NO_FIELDS,
            errors,
            taken: RefCell::default(),
            sketch: Some(sketch),
        }
    }

    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Notes an error about one field of this object.
    pub(crate) fn error_at(&self, name: &str, message: impl Into<String>) {
        self.errors.add(&self.path_of(name), message);
    }

    /// Marks a field as known without reading it.
    pub(crate) fn tolerate(&self, name: &'static str) {
        self.taken.borrow_mut().push(name);
    }

    /// The field as it stands; `null` counts as absent, as the API server has it.
    pub(crate) fn node(&self, name: &'static str) -> Option<Node<'a>> {
        self.tolerate(name);
        let value = match self.sketch {
            Some(_) => &NOTHING,
            None => self.map.get(name).filter(|value| !value.is_null())?,
        };
        Some(Node {
            path: self.path_of(name),
            value,
            errors: self.errors,
            sketch: self.sketch,
        })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// An optional field.
    pub(crate) fn take<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Node<'a>) -> Option<T>,
    ) -> Option<T> {
        self.node(name).and_then(|node| read(&node))
    }

    /// A field that must be there.
    pub(crate) fn require<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Node<'a>) -> Option<T>,
    ) -> Option<T> {
        if let Some(sketch) = self.sketch {
            sketch.require(&self.path, name);
        } else if !self.has(name) {
            self.tolerate(name);
            self.error_at(name, "is required");
            return None;
        }
        self.take(name, read)
    }

    /// Refuses a field that has a meaning which is not carried out yet.
    pub(crate) fn refuse(&self, name: &'static str) {
        if let Some(node) = self.node(name)
            && !node.sketched(|| Shape::Refused)
        {
            node.error::<()>("is not supported yet");
        }
    }

    /// Reports every field that nobody asked for.
    pub(crate) fn deny_unknown(self) {
        if let Some(sketch) = self.sketch {
            sketch.close(&self.path);
        }
        let taken = self.taken.borrow();
        for name in self.map.keys() {
            if taken.contains(&name.as_str()) {
                continue;
            }
            // Looking for a hint costs; a flood of unknown fields gets none.
            let hint = (!self.errors.is_full())
                .then(|| closest(name, taken.iter().copied()))
                .flatten()
                .map_or_else(String::new, |hint| format!("; did you mean \"{hint}\"?"));
            self.errors
                .add(&self.path_of(&clip(name)), format!("unknown field{hint}"));
        }
    }
}

/// The candidate that `name` is probably a slip of.
pub(crate) fn closest<'c>(
    name: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    if name.len() > 64 {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    candidates
        .map(|candidate| (distance(&lower, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance in bytes (insert, delete, replace), one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *slot;
            left = replaced.min(diagonal + 1).min(left + 1);
            *slot = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// The text in quotes, shortened and escaped so that it fits an error line.
pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", clip(text))
}

fn clip(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut out: String = text
        .chars()
        .take(LONGEST)
        .flat_map(|c| {
            let escape = c.is_control();
            let plain = (!escape).then_some(c);
            plain
                .into_iter()
                .chain(escape.then(|| c.escape_default()).into_iter().flatten())
        })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

/// A value as an error names it.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => clip(&number.to_string()),
        Value::String(text) => quote(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_single_slips() {
        for (a, b, expected) in [
            ("tag", "tag", 0),
            ("tagg", "tag", 1),
            ("", "abc", 3),
            ("abc", "", 3),
            ("selfip_v4", "selfip_v4s", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn hints_are_given_for_slips_and_not_for_strangers() {
        let known = ["tag", "interfaces", "selfip_v4s", "destinationAddress"];
        let hint = |name| closest(name, known.iter().copied());
        assert_eq!(hint("tagg"), Some("tag"));
        assert_eq!(hint("selfip_v4"), Some("selfip_v4s"));
        assert_eq!(hint("destinationaddress"), Some("destinationAddress"));
        assert_eq!(hint("colour"), None);
        assert_eq!(hint(&"x".repeat(10_000)), None);
    }

    #[test]
    fn the_number_of_errors_kept_is_bounded() {
        let errors = Errors::default();
        for _ in 0..1000 {
            errors.add("spec", "x");
        }
        let list = errors.into_vec();
        assert_eq!(list.len(), MAX_ERRORS + 1);
        assert_eq!(list[MAX_ERRORS].message, "and 950 more errors");
    }

    #[test]
    fn quoted_text_is_short_and_printable() {
        assert_eq!(quote("a\n\u{1b}b"), "\"a\\n\\u{1b}b\"");
        assert!(quote(&"é".repeat(1000)).chars().count() < 70);
    }
}
