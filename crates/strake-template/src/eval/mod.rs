//! Carrying a template out.
//!
//! Recursion over the tree, with two counts that bound the stack: how many templates call each other, and how many blocks and
//! parentheses are open in all of them together. An error ends everything, so the counts are only taken back on success.

mod fields;
mod pipeline;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::error::{Fault, Place, TemplateError};
use crate::format;
use crate::host::Host;
use crate::limits::{MAX_CALLS, MAX_FRAMES, Meter, NODE};
use crate::output::{Output, Rendered};
use crate::parse;
use crate::parse::ast::{Choice, Loop, Node, Template, TemplateCall};
use crate::source::Source;
use crate::value::Value;

/// The templates of a set by name.
pub(crate) type Set = BTreeMap<Rc<str>, Rc<Template>>;

type Result<T> = std::result::Result<T, Box<TemplateError>>;

/// Carries out a template of the set.
pub(crate) fn render(set: &Set, template: &Template, dot: &Value, host: &Host<'_>) -> Result<Rendered> {
    let meter = Meter::new(host.limits);
    let world = World { host, meter: &meter, calls: Cell::new(0), frames: Cell::new(0) };
    let mut out = Output::traced(&meter);
    Evaluator::new(&world, set, template, dot).run(dot, &mut out)?;
    Ok(out.finish())
}

/// Puts the templates of a file into the set. One of only blanks never replaces another.
pub(crate) fn associate(set: &mut Set, found: BTreeMap<Rc<str>, Template>) {
    for (name, template) in found {
        if !(template.is_blank && set.contains_key(&name)) {
            set.insert(name, Rc::new(template));
        }
    }
}

/// What all templates of one rendering share.
struct World<'a> {
    host: &'a Host<'a>,
    meter: &'a Meter,
    calls: Cell<usize>,
    frames: Cell<usize>,
}

/// One template being carried out.
struct Evaluator<'a> {
    world: &'a World<'a>,
    set: &'a Set,
    template: &'a Template,
    /// The innermost last.
    variables: Vec<(Rc<str>, Value)>,
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl<'a> Evaluator<'a> {
    fn new(world: &'a World<'a>, set: &'a Set, template: &'a Template, dot: &Value) -> Self {
        Self { world, set, template, variables: vec![("$".into(), dot.clone())] }
    }

    fn place(&self, at: usize) -> Place {
        self.template.source.place(at)
    }

    /// Gives a fault the place `at`.
    fn at<T>(&self, at: usize, result: std::result::Result<T, Fault>) -> Result<T> {
        result.map_err(|fault| fault.at(self.place(at)))
    }

    fn fail<T>(&self, at: usize, message: impl Into<String>) -> Result<T> {
        self.at(at, Err(Fault::new(message)))
    }

    fn charge(&self, at: usize, units: usize) -> Result<()> {
        self.at(at, self.world.meter.charge(units))
    }

    /// Steps into a block or a parenthesis.
    fn enter(&self, at: usize) -> Result<()> {
        let frames = self.world.frames.get() + 1;
        self.world.frames.set(frames);
        if frames > MAX_FRAMES {
            let fault = Fault::limit(format!(
                "more than {MAX_FRAMES} blocks, parentheses and calls are open at once"
            ));
            return self.at(at, Err(fault.hint("look for a recursion that does not end")));
        }
        Ok(())
    }

    fn leave(&self) {
        self.world.frames.set(self.world.frames.get() - 1);
    }

    fn run(&mut self, dot: &Value, out: &mut Output<'_>) -> Result<()> {
        let template = self.template;
        self.nodes(&template.body, dot, out).map(drop)
    }

    fn nodes(&mut self, nodes: &'a [Node], dot: &Value, out: &mut Output<'_>) -> Result<Flow> {
        for node in nodes {
            let flow = self.node(node, dot, out)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &'a Node, dot: &Value, out: &mut Output<'_>) -> Result<Flow> {
        match node {
            Node::Text(range) => {
                let source = &self.template.source;
                let written = out.literal(&source.text[range.clone()], source, range.start);
                self.at(range.start, written)?;
            }
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.print(&value, pipeline.at, out)?;
                }
            }
            Node::If(choice) => return self.choice(choice, dot, out, |_| None),
            Node::With(choice) => return self.choice(choice, dot, out, Some),
            Node::Range(range) => return self.range(range, dot, out),
            Node::Call(call) => self.template_call(call, dot, out)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn print(&self, value: &Value, at: usize, out: &mut Output<'_>) -> Result<()> {
        let source = &self.template.source;
        let written = match value {
            Value::String(text) => out.value(text, source, at),
            Value::Null => out.value("<no value>", source, at),
            other => format::printed(other, self.world.meter).and_then(|text| out.value(&text, source, at)),
        };
        self.at(at, written)
    }

    /// `if` and `with`; `new_dot` says what the condition's value is to the body.
    fn choice(
        &mut self,
        choice: &'a Choice,
        dot: &Value,
        out: &mut Output<'_>,
        new_dot: fn(Value) -> Option<Value>,
    ) -> Result<Flow> {
        let mark = self.variables.len();
        let mut taken = None;
        for (condition, body) in &choice.branches {
            let value = self.pipeline(condition, dot)?;
            if value.is_true() {
                taken = Some((condition.at, body, new_dot(value)));
                break;
            }
        }
        let at = choice.branches[0].0.at;
        let (at, body, inner) = taken.unwrap_or((at, &choice.otherwise, None));
        self.enter(at)?;
        let flow = self.nodes(body, inner.as_ref().unwrap_or(dot), out)?;
        self.leave();
        self.variables.truncate(mark);
        Ok(flow)
    }

    fn range(&mut self, range: &'a Loop, dot: &Value, out: &mut Output<'_>) -> Result<Flow> {
        let at = range.over.at;
        let mark = self.variables.len();
        let over = self.pipeline(&range.over, dot)?;
        self.enter(at)?;
        let items: Box<dyn Iterator<Item = (Value, Value)>> = match over {
            Value::Int(_) if range.over.variables.len() > 1 => {
                return self.fail(at, "a range over a number has one variable, not two");
            }
            Value::Int(count) => Box::new((0..count).map(|index| (Value::Null, Value::Int(index)))),
            Value::List(list) => {
                Box::new((0..list.len()).map(move |index| (Value::Int(count_of(index)), list[index].clone())))
            }
            Value::Map(map) => {
                self.charge(at, map.len() * NODE)?;
                Box::new(map.snapshot().into_iter().map(|(key, value)| (Value::String(key), value)))
            }
            Value::Null => Box::new(std::iter::empty()),
            other => {
                return self
                    .fail(at, format!("range can't iterate over a value of type {}", other.type_name()));
            }
        };
        let mut empty = true;
        let inner = self.variables.len();
        for (index, item) in items {
            empty = false;
            self.charge(at, NODE)?;
            self.bind(range, mark, index, item.clone())?;
            let flow = self.nodes(&range.body, &item, out)?;
            self.variables.truncate(inner);
            if flow == Flow::Break {
                break;
            }
        }
        // Break and continue in the body were meant for this loop, those in what stands for it for the one around it.
        let flow = if empty { self.nodes(&range.otherwise, dot, out)? } else { Flow::On };
        self.leave();
        self.variables.truncate(mark);
        Ok(flow)
    }

    /// Gives the variables of a range, which are on top of `mark` if they are new, the values of one turn.
    fn bind(&mut self, range: &Loop, mark: usize, index: Value, item: Value) -> Result<()> {
        let names = &range.over.variables;
        let values = match names.len() {
            0 => return Ok(()),
            1 => vec![item],
            _ => vec![index, item],
        };
        for (position, (name, value)) in names.iter().zip(values).enumerate() {
            if range.over.assigns {
                self.assign(range.over.at, name, value)?;
            } else {
                self.variables[mark + position].1 = value;
            }
        }
        Ok(())
    }

    fn template_call(&mut self, call: &'a TemplateCall, dot: &Value, out: &mut Output<'_>) -> Result<()> {
        let argument = match &call.argument {
            Some(pipeline) => self.pipeline(pipeline, dot)?,
            None => Value::Null,
        };
        self.called(call.at, &call.name, &argument, out)
    }

    /// Carries out another template of the set.
    fn called(&self, at: usize, name: &str, argument: &Value, out: &mut Output<'_>) -> Result<()> {
        let Some(template) = self.set.get(name) else {
            let shown = &name[..name.floor_char_boundary(200)];
            let fault = Fault::new(format!("template {shown:?} is not defined"));
            return self.at(at, Err(fault.hint(self.known_templates())));
        };
        self.carry_out(at, self.set, template, argument, out)
    }

    fn known_templates(&self) -> String {
        let mut names: Vec<&str> = self.set.keys().map(|name| &**name).take(6).collect();
        if self.set.len() > 5 {
            names[5] = "…";
        }
        format!("defined are {}", names.join(", "))
    }

    fn carry_out(
        &self,
        at: usize,
        set: &Set,
        template: &Template,
        argument: &Value,
        out: &mut Output<'_>,
    ) -> Result<()> {
        let calls = self.world.calls.get() + 1;
        if calls > MAX_CALLS {
            let fault = Fault::limit(format!("templates call each other more than {MAX_CALLS} levels deep"));
            return self.at(at, Err(fault.hint("look for a template that calls itself for ever")));
        }
        self.world.calls.set(calls);
        self.enter(at)?;
        self.charge(at, NODE)?;
        Evaluator::new(self.world, set, template, argument).run(argument, out).map_err(|mut error| {
            error.called_from.push(self.place(at));
            error
        })?;
        self.leave();
        self.world.calls.set(calls - 1);
        Ok(())
    }

    /// `include`: the text of a template.
    fn include(&self, at: usize, name: &str, argument: &Value) -> Result<Value> {
        let mut out = Output::plain(self.world.meter);
        self.called(at, name, argument, &mut out)?;
        Ok(out.into_text().into())
    }

    /// `tpl`: a text carried out as a template that sees the whole set. What it defines is its own.
    fn tpl(&self, at: usize, text: &str, argument: &Value) -> Result<Value> {
        self.charge(at, text.len() * NODE + self.set.len() * NODE)?;
        let source = Arc::new(Source::new("tpl", text));
        let found = parse::parse(&source).map_err(|problem| {
            let mut error = syntax_error(&source, problem);
            error.called_from.push(self.place(at));
            error
        })?;
        let mut set = self.set.clone();
        associate(&mut set, found);
        let mut out = Output::plain(self.world.meter);
        if let Some(template) = set.get("tpl") {
            self.carry_out(at, &set, template, argument, &mut out)?;
        }
        Ok(out.into_text().into())
    }
}

/// What is wrong with the text of a template.
pub(crate) fn syntax_error(source: &Source, problem: crate::lex::Problem) -> Box<TemplateError> {
    Box::new(TemplateError {
        kind: crate::error::ErrorKind::Syntax,
        place: source.place(problem.at),
        message: problem.message,
        hint: problem.hint,
        called_from: Vec::new(),
    })
}

fn count_of(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}
