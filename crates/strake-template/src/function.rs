//! Functions of templates: how they are found, and how they see their arguments.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::LazyLock;

use crate::builtin;
use crate::error::Fault;
use crate::format;
use crate::host::Host;
use crate::limits::Meter;
use crate::sprig;
use crate::value::{List, Map, Value};

pub(crate) type Answer = Result<Value, Fault>;

/// A function that templates may call.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    /// The fewest arguments it takes.
    pub(crate) least: usize,
    /// The most arguments it takes; `usize::MAX` if there is no bound.
    pub(crate) most: usize,
    pub(crate) run: Run,
}

#[derive(Debug)]
pub(crate) enum Run {
    /// All arguments are evaluated, then it is called.
    Plain(fn(&Call<'_>) -> Answer),
    /// `and`: arguments are evaluated up to the first false one.
    And,
    /// `or`: arguments are evaluated up to the first true one.
    Or,
    /// `include`: a template's text as a value.
    Include,
    /// `tpl`: a text as a template.
    Tpl,
}

impl Function {
    /// A function of exactly `count` arguments.
    pub(crate) const fn of(name: &'static str, count: usize, run: fn(&Call<'_>) -> Answer) -> Self {
        Self::between(name, count, count, run)
    }

    /// A function of at least so many arguments.
    pub(crate) const fn from(name: &'static str, least: usize, run: fn(&Call<'_>) -> Answer) -> Self {
        Self::between(name, least, usize::MAX, run)
    }

    pub(crate) const fn between(
        name: &'static str,
        least: usize,
        most: usize,
        run: fn(&Call<'_>) -> Answer,
    ) -> Self {
        Self { name, least, most, run: Run::Plain(run) }
    }

    /// Whether it can be called with so many arguments; the message is Go's.
    pub(crate) fn check_count(&self, count: usize) -> Result<(), Fault> {
        let wants = match count {
            _ if count < self.least && self.most == usize::MAX => format!("at least {}", self.least),
            _ if count < self.least || (count > self.most && self.least == self.most) => {
                self.least.to_string()
            }
            _ if count > self.most => format!("at most {}", self.most),
            _ => return Ok(()),
        };
        Err(Fault::new(format!("wrong number of args for {}: want {wants} got {count}", self.name)))
    }
}

static ALL: LazyLock<BTreeMap<&'static str, &'static Function>> = LazyLock::new(|| {
    let tables = builtin::TABLES.iter().chain(sprig::TABLES);
    tables.flat_map(|table| table.iter()).map(|function| (function.name, function)).collect()
});

pub(crate) fn find(name: &str) -> Option<&'static Function> {
    ALL.get(name).copied()
}

/// The function whose name is most like this one, if any is.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > 40 {
        return None;
    }
    let near = ALL.keys().map(|known| (distance(name, known), *known)).min()?;
    (near.0 <= 1 + name.len() / 4).then_some(near.1)
}

/// How many single changes lie between two names, not regarding case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let change = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// One call of a function.
pub(crate) struct Call<'a> {
    pub(crate) name: &'static str,
    pub(crate) arguments: Vec<Value>,
    pub(crate) host: &'a Host<'a>,
    pub(crate) meter: &'a Meter,
}

impl Call<'_> {
    pub(crate) fn count(&self) -> usize {
        self.arguments.len()
    }

    /// An argument of any type. The number of arguments has been checked before the call.
    pub(crate) fn any(&self, index: usize) -> &Value {
        &self.arguments[index]
    }

    /// The arguments from an index on.
    pub(crate) fn from(&self, index: usize) -> &[Value] {
        &self.arguments[index..]
    }

    pub(crate) fn text(&self, index: usize) -> Result<&Rc<str>, Fault> {
        match self.any(index) {
            Value::String(text) => Ok(text),
            other => Err(self.wrong(index, "string", other)),
        }
    }

    pub(crate) fn int(&self, index: usize) -> Result<i64, Fault> {
        match self.any(index) {
            Value::Int(value) => Ok(*value),
            other => Err(self.wrong(index, "int", other)),
        }
    }

    /// An integer that says how many of something; negative counts are zero.
    pub(crate) fn size(&self, index: usize) -> Result<usize, Fault> {
        Ok(usize::try_from(self.int(index)?).unwrap_or(0))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "so does Go where an integer constant is given for a float"
    )]
    pub(crate) fn float(&self, index: usize) -> Result<f64, Fault> {
        match self.any(index) {
            Value::Float(value) => Ok(*value),
            Value::Int(value) => Ok(*value as f64),
            other => Err(self.wrong(index, "float64", other)),
        }
    }

    pub(crate) fn bool(&self, index: usize) -> Result<bool, Fault> {
        match self.any(index) {
            Value::Bool(value) => Ok(*value),
            other => Err(self.wrong(index, "bool", other)),
        }
    }

    /// A map to read; nil is one without keys.
    pub(crate) fn map(&self, index: usize) -> Result<Map, Fault> {
        match self.any(index) {
            Value::Null => Ok(Map::new()),
            _ => self.real_map(index).cloned(),
        }
    }

    /// A map to change.
    pub(crate) fn real_map(&self, index: usize) -> Result<&Map, Fault> {
        match self.any(index) {
            Value::Map(map) => Ok(map),
            other => Err(self.wrong(index, "map[string]interface {}", other)),
        }
    }

    pub(crate) fn list(&self, index: usize) -> Result<&List, Fault> {
        match self.any(index) {
            Value::List(list) => Ok(list),
            other => Err(self.wrong(index, "a list", other)),
        }
    }

    fn wrong(&self, index: usize, wanted: &str, got: &Value) -> Fault {
        Fault::new(format!(
            "wrong type for argument {}: expected {wanted}, got {}",
            index + 1,
            got.type_name()
        ))
    }

    /// What a value is as text: text as it is, anything else printed.
    pub(crate) fn printed(&self, value: &Value) -> Result<Rc<str>, Fault> {
        match value {
            Value::String(text) => Ok(text.clone()),
            other => Ok(format::printed(other, self.meter)?.into()),
        }
    }

    /// A new text as a value, within the limits.
    pub(crate) fn make(&self, text: impl Into<Rc<str>>) -> Answer {
        let text = text.into();
        self.meter.text(text.len())?;
        Ok(Value::String(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_given_twice() {
        let tables = builtin::TABLES.iter().chain(sprig::TABLES);
        assert_eq!(tables.map(|table| table.len()).sum::<usize>(), ALL.len());
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        assert_eq!(nearest("xyzzy"), None);
        assert_eq!(nearest("toupper"), Some("upper"));
        assert_eq!(nearest("uper"), Some("upper"));
        assert_eq!(nearest("trimsuffix"), Some("trimSuffix"));
    }
}
