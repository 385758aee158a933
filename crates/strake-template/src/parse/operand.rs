//! Pipelines, commands and operands.

use std::rc::Rc;

use crate::function;
use crate::lex::{Kind, Problem, Token};
use crate::parse::ast::{Command, Operand, Pipeline, Term};
use crate::parse::{KEYWORDS, Parser, Result, literal};

impl<'a> Parser<'a> {
    /// A pipeline and the token that ends it.
    pub(super) fn pipeline(&mut self, context: &str, loops: bool, end: Kind<'_>) -> Result<Pipeline> {
        let at = self.peek()?.at;
        let (variables, assigns) = self.declarations(context, loops)?;
        let mut commands: Vec<Command> = Vec::new();
        loop {
            let token = self.peek()?;
            if token.kind == end && commands.is_empty() {
                let message = format!("missing value for {context}");
                return Err(Problem::new(token.at, message));
            }
            let command = self.command(context)?;
            if !commands.is_empty() && !can_take_a_value(&command.first) {
                let message = format!("stage {} of the pipeline cannot be called", commands.len() + 1);
                return Err(Problem::new(command.first.at, message)
                    .hint("only functions and methods take a value after |"));
            }
            commands.push(command);
            let token = self.next()?;
            match token.kind {
                Kind::Pipe => {}
                kind if kind == end => break,
                kind => return Err(unexpected(token.at, &kind, context)),
            }
        }
        Ok(Pipeline { at, variables, assigns, commands })
    }

    /// `$x :=`, `$x =`, and in a range `$i, $x :=`; nothing if the pipeline starts otherwise.
    fn declarations(&mut self, context: &str, loops: bool) -> Result<(Vec<Rc<str>>, bool)> {
        let mut ahead = self.lexer;
        let mut names: Vec<Rc<str>> = Vec::new();
        let assigns = loop {
            let token = ahead.next()?;
            let Kind::Variable(name) = token.kind else {
                if names.is_empty() {
                    return Ok((Vec::new(), false));
                }
                return Err(Problem::new(token.at, "range can only set variables"));
            };
            let after = ahead.next()?;
            match after.kind {
                Kind::Comma if !loops || !names.is_empty() => {
                    return Err(Problem::new(after.at, format!("too many variables in {context}")));
                }
                Kind::Comma | Kind::Declare | Kind::Assign => names.push(name.into()),
                _ if names.is_empty() => return Ok((Vec::new(), false)),
                kind => return Err(unexpected(after.at, &kind, context)),
            }
            match after.kind {
                Kind::Declare => break false,
                Kind::Assign => break true,
                _ => {}
            }
        };
        if assigns {
            let at = self.peek()?.at;
            for name in &names {
                self.check_variable(at, name)?;
            }
        }
        self.lexer = ahead;
        for name in names.iter().filter(|_| !assigns) {
            self.scope.push(name.clone());
        }
        Ok((names, assigns))
    }

    fn check_variable(&self, at: usize, name: &str) -> Result<()> {
        if self.scope.knows(name) {
            return Ok(());
        }
        Err(Problem::new(at, format!("undefined variable {name}"))
            .hint(format!("set it first: {{{{ {name} := … }}}}; it ends with the block it was set in")))
    }

    fn command(&mut self, context: &str) -> Result<Command> {
        let first = self.operand(context)?;
        let mut arguments = Vec::new();
        loop {
            let token = self.peek()?;
            match token.kind {
                Kind::Pipe | Kind::Close | Kind::RightParen => return Ok(Command { first, arguments }),
                kind if !token.spaced => return Err(unexpected(token.at, &kind, "operand")),
                _ => arguments.push(self.operand(context)?),
            }
        }
    }

    fn operand(&mut self, context: &str) -> Result<Operand> {
        let token = self.next()?;
        let mut fields = Vec::new();
        let term = match token.kind {
            Kind::Field(name) => {
                fields.push(name[1..].into());
                Term::Dot
            }
            _ => self.term(token, context)?,
        };
        while let Token { kind: Kind::Field(name), spaced: false, .. } = self.peek()? {
            if fields.is_empty()
                && matches!(
                    term,
                    Term::Dot | Term::Nil | Term::Bool(_) | Term::Int(_) | Term::Float(_) | Term::Text(_)
                )
            {
                let message = format!("unexpected {name} after {}", token.kind.describe());
                return Err(Problem::new(token.at, message));
            }
            fields.push(name[1..].into());
            self.next()?;
        }
        Ok(Operand { at: token.at, term, fields })
    }

    fn term(&mut self, token: Token<'a>, context: &str) -> Result<Term> {
        let problem = |message| Problem::new(token.at, message);
        match token.kind {
            Kind::Dot => Ok(Term::Dot),
            Kind::Word("nil") => Ok(Term::Nil),
            Kind::Word("true") => Ok(Term::Bool(true)),
            Kind::Word("false") => Ok(Term::Bool(false)),
            Kind::Word(word) if !KEYWORDS.contains(&word) => known_function(token.at, word),
            Kind::Number(text) => literal::number(text).map_err(problem),
            Kind::Char(text) => literal::character(text).map_err(problem),
            Kind::Quoted(text) => literal::quoted(text).map(|text| Term::Text(text.into())).map_err(problem),
            Kind::Variable(name) => {
                self.check_variable(token.at, name)?;
                Ok(Term::Variable(name.into()))
            }
            Kind::LeftParen => {
                self.enter(token.at)?;
                let pipeline = self.pipeline("parenthesized pipeline", false, Kind::RightParen)?;
                self.leave();
                Ok(Term::Pipeline(Box::new(pipeline)))
            }
            kind => Err(unexpected(token.at, &kind, context)),
        }
    }
}

fn known_function(at: usize, name: &str) -> Result<Term> {
    if let Some(function) = function::find(name) {
        return Ok(Term::Function(function));
    }
    let problem = Problem::new(at, format!("function {name:?} is not defined"));
    Err(match function::nearest(name) {
        Some(near) => problem.hint(format!("did you mean {near}?")),
        None => problem.hint("text stands in quotes, and a field of the current value begins with a dot"),
    })
}

/// Only what can be called may receive the value of the stage before it.
fn can_take_a_value(operand: &Operand) -> bool {
    !operand.fields.is_empty()
        || !matches!(
            operand.term,
            Term::Dot | Term::Nil | Term::Bool(_) | Term::Int(_) | Term::Float(_) | Term::Text(_)
        )
}

fn unexpected(at: usize, kind: &Kind<'_>, context: &str) -> Problem {
    Problem::new(at, format!("unexpected {} in {context}", kind.describe()))
}
