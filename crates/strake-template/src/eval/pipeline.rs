//! Values of pipelines, commands and operands.

use std::rc::Rc;

use crate::error::{ErrorKind, Fault};
use crate::eval::{Evaluator, Result};
use crate::function::{Call, Function, Run};
use crate::limits::NODE;
use crate::parse::ast::{Command, Operand, Pipeline, Term};
use crate::value::Value;

impl<'a> Evaluator<'a> {
    /// The value of a pipeline; its variables stay until the block around it ends.
    pub(super) fn pipeline(&mut self, pipeline: &'a Pipeline, dot: &Value) -> Result<Value> {
        self.charge(pipeline.at, NODE)?;
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or_default();
        for name in &pipeline.variables {
            if pipeline.assigns {
                self.assign(pipeline.at, name, value.clone())?;
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    pub(super) fn assign(&mut self, at: usize, name: &Rc<str>, value: Value) -> Result<()> {
        let index = self.find_variable(at, name)?;
        self.variables[index].1 = value;
        Ok(())
    }

    /// Where the innermost variable of a name is. It may not be there although the parser saw it: `and false ($x := 1)`.
    fn find_variable(&self, at: usize, name: &str) -> Result<usize> {
        let Some(index) = self.variables.iter().rposition(|(known, _)| **known == *name) else {
            return self.fail(at, format!("undefined variable {name}"));
        };
        self.charge(at, self.variables.len() - index)?;
        Ok(index)
    }

    /// A word with its arguments, the value of the stage before it being the last of them.
    fn command(&mut self, command: &'a Command, dot: &Value, piped: Option<Value>) -> Result<Value> {
        let first = &command.first;
        if first.fields.is_empty() {
            if let Term::Function(function) = first.term {
                return self.call(first.at, function, &command.arguments, dot, piped);
            }
            if !command.arguments.is_empty() || piped.is_some() {
                return self.fail(first.at, "can't give arguments to what is not a function");
            }
            if matches!(first.term, Term::Nil) {
                return self.fail(first.at, "nil is not a command");
            }
            return self.term(first, dot);
        }
        let receiver = self.term(first, dot)?;
        let mut arguments = self.values(&command.arguments, dot)?;
        arguments.extend(piped);
        self.charge(first.at, arguments.iter().map(Value::text_length).sum())?;
        self.fields(first, receiver, &arguments)
    }

    /// An operand that gets no arguments.
    fn operand(&mut self, operand: &'a Operand, dot: &Value) -> Result<Value> {
        self.charge(operand.at, NODE)?;
        let value = self.term(operand, dot)?;
        if operand.fields.is_empty() { Ok(value) } else { self.fields(operand, value, &[]) }
    }

    fn values(&mut self, operands: &'a [Operand], dot: &Value) -> Result<Vec<Value>> {
        operands.iter().map(|operand| self.operand(operand, dot)).collect()
    }

    fn term(&mut self, operand: &'a Operand, dot: &Value) -> Result<Value> {
        Ok(match &operand.term {
            Term::Dot => dot.clone(),
            Term::Nil => Value::Null,
            Term::Bool(value) => Value::Bool(*value),
            Term::Int(value) => Value::Int(*value),
            Term::Float(value) => Value::Float(*value),
            Term::Text(text) => Value::String(text.clone()),
            Term::Variable(name) => {
                let index = self.find_variable(operand.at, name)?;
                self.variables[index].1.clone()
            }
            Term::Function(function) => self.call(operand.at, function, &[], dot, None)?,
            Term::Pipeline(pipeline) => {
                self.enter(operand.at)?;
                let value = self.pipeline(pipeline, dot)?;
                self.leave();
                value
            }
        })
    }

    fn call(
        &mut self,
        at: usize,
        function: &'static Function,
        operands: &'a [Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value> {
        let count = operands.len() + usize::from(piped.is_some());
        self.at(at, function.check_count(count))?;
        self.charge(at, NODE)?;
        match function.run {
            Run::And => return self.first_that(operands, dot, piped, |value| !value.is_true()),
            Run::Or => return self.first_that(operands, dot, piped, Value::is_true),
            _ => {}
        }
        let mut arguments = self.values(operands, dot)?;
        arguments.extend(piped);
        self.charge(at, arguments.iter().map(Value::text_length).sum())?;
        match function.run {
            Run::Plain(run) => {
                let call =
                    Call { name: function.name, arguments, host: self.world.host, meter: self.world.meter };
                self.at(at, run(&call).map_err(|fault| fault.in_function(function.name)))
            }
            _ => self.nested(at, function, &arguments),
        }
    }

    /// `include` and `tpl`.
    fn nested(&self, at: usize, function: &'static Function, arguments: &[Value]) -> Result<Value> {
        let [Value::String(text), argument] = arguments else {
            let kind = arguments[0].type_name();
            let fault = Fault::of_kind(
                ErrorKind::Evaluation,
                format!("wrong type for argument 1: expected string, got {kind}"),
            );
            return self.at(at, Err(fault.in_function(function.name)));
        };
        match function.run {
            Run::Include => self.include(at, text, argument),
            _ => self.tpl(at, text, argument),
        }
    }

    /// The first value that decides, or else the last one. What comes after it is not evaluated.
    fn first_that(
        &mut self,
        operands: &'a [Operand],
        dot: &Value,
        piped: Option<Value>,
        decides: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut value = Value::Null;
        for operand in operands {
            value = self.operand(operand, dot)?;
            if decides(&value) {
                return Ok(value);
            }
        }
        Ok(piped.unwrap_or(value))
    }
}
