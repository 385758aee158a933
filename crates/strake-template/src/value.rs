//! What a template works on.
//!
//! A value is one of Go's dynamic values as far as a template can tell them apart. Two things are simpler than in Go: there is
//! one integer type and one float type, and every list is a `[]interface {}`, every map a `map[string]interface {}`. So a
//! function that wants an integer takes any, and `typeOf` answers `int` for all of them.
//!
//! Lists never change; maps do, and are shared: `set` on a map is seen by everybody who holds it. A template can therefore
//! build a chain of any length or a map that holds itself. Whatever walks values has a depth limit for that reason, and
//! [`dismantle`] drops them without recursion.

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use jiff::Zoned;

use crate::object::Object;

/// A value of a template.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Go's `nil`, and what a missing key of a map answers. Printed by itself it is `<no value>`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any of Go's integers.
    Int(i64),
    /// A floating point number.
    Float(f64),
    /// Text.
    String(Rc<str>),
    /// A list; it never changes.
    List(List),
    /// A map with text keys, in the order of the keys; shared and mutable.
    Map(Map),
    /// Something of the caller's, with methods.
    Object(Object),
    /// A moment in a time zone.
    Time(Time),
}

impl Value {
    /// A list of these values.
    pub fn list(values: impl IntoIterator<Item = Self>) -> Self {
        Self::List(List::new(values.into_iter().collect()))
    }

    /// What `if` decides by: false, zero, nothing and whatever is empty are false.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::String(text) => !text.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Object(_) | Self::Time(_) => true,
        }
    }

    /// The name of its type in Go.
    pub(crate) fn type_name(&self) -> &str {
        match self {
            Self::Null => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::String(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Object(object) => object.type_name(),
            Self::Time(_) => "time.Time",
        }
    }

    /// The bytes that a function which gets it is likely to read. What walks a list or a map pays for that by itself.
    pub(crate) fn text_length(&self) -> usize {
        if let Self::String(text) = self { text.len() } else { 0 }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<Vec<Self>> for Value {
    fn from(values: Vec<Self>) -> Self {
        Self::List(List::new(values))
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl From<Zoned> for Value {
    fn from(moment: Zoned) -> Self {
        Self::Time(Time(Rc::new(moment)))
    }
}

/// A list of values; cheap to clone.
#[derive(Clone, Default)]
pub struct List(Rc<Items>);

#[derive(Default)]
struct Items(Vec<Value>);

impl List {
    fn new(values: Vec<Value>) -> Self {
        Self(Rc::new(Items(values)))
    }

    /// Whether both are the same list, not only equal ones.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl std::ops::Deref for List {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        &self.0.0
    }
}

impl fmt::Debug for List {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "List({} values)", self.len())
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        dismantle(std::mem::take(&mut self.0));
    }
}

/// A map from text to values, shared by all its clones: what one changes, all see.
#[derive(Clone, Default)]
pub struct Map(Rc<Entries>);

#[derive(Default)]
struct Entries(RefCell<BTreeMap<Rc<str>, Value>>);

impl Map {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a value under a key, in place of what was there.
    pub fn insert(&self, key: impl Into<Rc<str>>, value: impl Into<Value>) {
        let replaced = self.0.0.borrow_mut().insert(key.into(), value.into());
        drop(replaced); // after the borrow has ended: what is replaced may hold this very map
    }

    /// What is under a key.
    pub fn get(&self, key: &str) -> Option<Value> {
        self.0.0.borrow().get(key).cloned()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.0.borrow().len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.0.borrow().is_empty()
    }

    pub(crate) fn remove(&self, key: &str) {
        let removed = self.0.0.borrow_mut().remove(key);
        drop(removed);
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.0.0.borrow().contains_key(key)
    }

    /// A look at all entries, in the order of their keys. Nobody may change the map meanwhile.
    pub(crate) fn entries(&self) -> Ref<'_, BTreeMap<Rc<str>, Value>> {
        self.0.0.borrow()
    }

    /// All entries as they are now, for code that may change the map while it walks.
    pub(crate) fn snapshot(&self) -> Vec<(Rc<str>, Value)> {
        self.entries().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Whether both are the same map, not only equal ones.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl<K: Into<Rc<str>>, V: Into<Value>> FromIterator<(K, V)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let map = Self::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Map({} keys)", self.len())
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        dismantle(std::mem::take(self.0.get_mut()).into_values().collect());
    }
}

/// A moment in a time zone; cheap to clone.
#[derive(Clone, Debug)]
pub struct Time(pub(crate) Rc<Zoned>);

/// Drops values however deep they are nested, with a list of what is left to do instead of the stack.
fn dismantle(mut left: Vec<Value>) {
    while let Some(value) = left.pop() {
        match value {
            Value::List(list) => {
                if let Some(mut items) = Rc::into_inner(list.0) {
                    left.append(&mut items.0);
                }
            }
            Value::Map(map) => {
                if let Some(mut entries) = Rc::into_inner(map.0) {
                    left.extend(std::mem::take(entries.0.get_mut()).into_values());
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_chain_of_lists_and_maps_is_dropped_without_recursion() {
        let mut value = Value::Null;
        for _ in 0..200_000 {
            value = Value::list([Value::Map(Map::from_iter([("in", value)]))]);
        }
        drop(value);
    }

    #[test]
    fn all_clones_of_a_map_see_a_change() {
        let map = Map::new();
        let clone = map.clone();
        map.insert("k", 1);
        assert!(matches!(clone.get("k"), Some(Value::Int(1))));
    }

    #[test]
    fn a_map_in_itself_can_be_replaced() {
        let map = Map::new();
        map.insert("self", map.clone());
        map.insert("self", Value::Null);
        assert_eq!(map.len(), 1);
    }
}
