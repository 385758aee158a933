//! Things of the caller's that a template may ask.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use crate::value::Value;

/// What a method answers: a value, or in words why not.
pub type Reply = Result<Value, String>;

type Method = Box<dyn Fn(&[Value]) -> Reply>;

/// Something with methods, as `.Files` with `Get`: `{{ .Files.Get "a.conf" }}`. Cheap to clone.
///
/// A method that takes no arguments looks like a field.
#[derive(Clone)]
pub struct Object(Rc<Inner>);

struct Inner {
    type_name: String,
    text: String,
    methods: BTreeMap<&'static str, Method>,
}

impl Object {
    /// An object without methods; `type_name` is how messages call it.
    pub fn new(type_name: impl Into<String>) -> Self {
        let type_name = type_name.into();
        Self(Rc::new(Inner { text: format!("<{type_name}>"), type_name, methods: BTreeMap::new() }))
    }

    /// The same object with one method more.
    ///
    /// # Panics
    ///
    /// When the object has been cloned before: methods are given while it is built.
    #[must_use]
    pub fn method(self, name: &'static str, method: impl Fn(&[Value]) -> Reply + 'static) -> Self {
        self.change(|inner| {
            inner.methods.insert(name, Box::new(method));
        })
    }

    /// The same object printing itself as `text`.
    pub(crate) fn printed_as(self, text: String) -> Self {
        self.change(|inner| inner.text = text)
    }

    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Rc::get_mut(&mut self.0).expect("an object is built before it is shared"));
        self
    }

    pub(crate) fn type_name(&self) -> &str {
        &self.0.type_name
    }

    pub(crate) fn text(&self) -> &str {
        &self.0.text
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.methods.keys().copied()
    }

    /// Calls a method; `None` if there is none of this name.
    pub(crate) fn call(&self, name: &str, arguments: &[Value]) -> Option<Reply> {
        self.0.methods.get(name).map(|method| method(arguments))
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Object({})", self.0.type_name)
    }
}
