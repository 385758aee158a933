//! Go text templates with the Sprig functions: text in, text out, and where each line of it comes from.
//!
//! The stage file is a template before it is YAML. People know its language from Go's `text/template` and from Helm, so this
//! crate follows those to the letter wherever a template can tell: what is blank, what is true, what `printf "%q"` prints and
//! how maps are ordered. The data files of the tests were checked against Go 1.27 and Sprig 3.2.3.
//!
//! # From text to text
//!
//! ```text
//! name, text ──lex──▶ tokens ──parse──▶ Templates ──eval(value, host)──▶ Rendered { text, origin(line) }
//! ```
//!
//! [`Templates`] is a set of files. Each file is a template under its own name, and `define` and `block` in it add more; all
//! names are global. A later definition replaces an earlier one, unless it is blank: so the order of `add` decides, and the
//! caller gives the order. Parsing stops at the first error, rendering does too.
//!
//! A [`Value`] is what templates work on. Maps are shared and mutable: after `{{ $_ := set . "Name" "v" }}` every template
//! that got the same map sees `{{ .Name }}`. What the caller wants to offer with arguments, such as `.Files.Get "path"`, is an
//! [`Object`] with methods.
//!
//! # A template knows nothing by itself
//!
//! The crate reads no environment, no disk, no clock and no network. [`Host`] carries the answers of `now` and `env`, or
//! refuses them. What cannot be the same twice is not there: random numbers, keys, certificates, `uuidv4`, `getHostByName` are
//! known by name and answer with an error that says so. The time zone `Local` is UTC.
//!
//! # A template may be hostile
//!
//! It comes with the source being built. So everything is bounded: the nesting of the text, the depth of calls, the length of
//! texts and the work done ([`Limits`]); values are walked with a depth limit, and dropped without recursion. Regular
//! expressions take linear time and are limited in size.
//!
//! # Where it differs from Go
//!
//! - One integer type: `typeOf (add 1 2)` is `int`, not `int64`, and a function that wants an `int` takes it; `kindIs` and
//!   `typeIs` accept both names. All lists are `[]interface {}` and all maps `map[string]interface {}`.
//! - Texts are UTF-8. Positions in them count bytes, as in Go, but a cut never splits a character: it moves down to its start.
//! - `keys`, `values` and what follows from them come in the order of the keys; Go's order is random.
//! - A bad argument of `b64dec`, `b32dec`, `regexMatch` or `semver` is an error; Sprig returns the message as the text, or false.
//! - An unknown time zone is an error; Sprig takes UTC.
//! - Complex numbers, `%b` and `%x` of floats, and Helm's `toYaml` are not there.

mod builtin;
mod error;
mod eval;
mod format;
mod function;
mod host;
mod lex;
mod limits;
mod object;
mod output;
mod parse;
mod source;
mod sprig;
mod value;

use std::sync::Arc;

pub use error::{ErrorKind, Place, TemplateError};
pub use host::{Host, Lookup};
pub use limits::Limits;
pub use object::{Object, Reply};
pub use output::Rendered;
pub use value::{List, Map, Time, Value};

use eval::Set;
use source::Source;

/// A set of templates that can call each other by name.
#[derive(Debug, Default)]
pub struct Templates {
    set: Set,
}

impl Templates {
    /// A set without templates.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file of templates: itself under its name, and all that it defines. A definition replaces an earlier one of the
    /// same name, unless it holds only blanks.
    ///
    /// # Errors
    ///
    /// When the text is not a template, or longer than 2 MiB; the set stays as it was.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), Box<TemplateError>> {
        let source = Arc::new(Source::new(name, text));
        let found = parse::parse(&source).map_err(|problem| eval::syntax_error(&source, problem))?;
        eval::associate(&mut self.set, found);
        Ok(())
    }

    /// Whether there is a template of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    /// Carries out a template with `dot` as its current value.
    ///
    /// # Errors
    ///
    /// When there is no such template, when it asks for what cannot be had, when it fails by itself, or when it does more than
    /// the limits of the host allow.
    pub fn render(&self, name: &str, dot: &Value, host: &Host<'_>) -> Result<Rendered, Box<TemplateError>> {
        let Some(template) = self.set.get(name) else {
            return Err(Box::new(TemplateError {
                kind: ErrorKind::Evaluation,
                place: Place { template: name.into(), line: 1, column: 1 },
                message: format!("template {name:?} is not defined"),
                hint: None,
                called_from: Vec::new(),
            }));
        };
        eval::render(&self.set, template, dot, host)
    }
}
