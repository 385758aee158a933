//! What a template is once it has been read. Places are byte offsets into the file.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::function::Function;
use crate::source::Source;

/// A template of a set: a whole file, or what a `define` or `block` in it defines.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) source: Arc<Source>,
    pub(crate) body: Vec<Node>,
    /// Whether it holds nothing but blanks. Such a template never replaces another.
    pub(crate) is_blank: bool,
}

impl Template {
    pub(crate) fn new(source: Arc<Source>, body: Vec<Node>) -> Self {
        let is_blank = body.iter().all(|node| match node {
            Node::Text(range) => source.text[range.clone()].trim().is_empty(),
            _ => false,
        });
        Self { source, body, is_blank }
    }
}

#[derive(Debug)]
pub(crate) enum Node {
    Text(Range<usize>),
    /// A pipeline whose value is printed, unless it went into a variable.
    Action(Pipeline),
    If(Box<Choice>),
    With(Box<Choice>),
    Range(Box<Loop>),
    Call(Box<TemplateCall>),
    Break,
    Continue,
}

/// `if` or `with`, with all its `else if` or `else with`.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) branches: Vec<(Pipeline, Vec<Node>)>,
    pub(crate) otherwise: Vec<Node>,
}

#[derive(Debug)]
pub(crate) struct Loop {
    pub(crate) over: Pipeline,
    pub(crate) body: Vec<Node>,
    pub(crate) otherwise: Vec<Node>,
}

/// `template` or `block`.
#[derive(Debug)]
pub(crate) struct TemplateCall {
    pub(crate) at: usize,
    pub(crate) name: String,
    pub(crate) argument: Option<Pipeline>,
}

#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) at: usize,
    /// The variables it sets, with their `$`.
    pub(crate) variables: Vec<Rc<str>>,
    /// Whether these variables exist already.
    pub(crate) assigns: bool,
    pub(crate) commands: Vec<Command>,
}

/// A word and its arguments.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) first: Operand,
    pub(crate) arguments: Vec<Operand>,
}

#[derive(Debug)]
pub(crate) struct Operand {
    pub(crate) at: usize,
    pub(crate) term: Term,
    /// The fields asked of it, without their dots.
    pub(crate) fields: Vec<Rc<str>>,
}

#[derive(Debug)]
pub(crate) enum Term {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    Variable(Rc<str>),
    Function(&'static Function),
    Pipeline(Box<Pipeline>),
}
