//! Tokens into templates.
//!
//! `else if` chains are read in a loop, everything else that can be nested by recursion with a limit. Variables are checked
//! here, so a misspelt one is found in a branch that is never taken too.

pub(crate) mod ast;
pub(crate) mod literal;
mod operand;
mod scope;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::lex::{Kind, Lexer, Problem, Token};
use crate::limits::MAX_NESTING;
use crate::parse::ast::{Choice, Loop, Node, Pipeline, Template, TemplateCall};
use crate::parse::scope::Scope;
use crate::source::Source;

type Result<T> = std::result::Result<T, Problem>;

/// The longest text of a template, in bytes: what has been read may take a hundred times as much memory.
const MAX_LENGTH: usize = 2 << 20;

/// Reads a file: itself under its name, and what it defines.
pub(crate) fn parse(source: &Arc<Source>) -> Result<BTreeMap<Rc<str>, Template>> {
    if source.text.len() > MAX_LENGTH {
        return Err(Problem::new(0, format!("the template is longer than {MAX_LENGTH} bytes")));
    }
    let mut parser = Parser {
        source,
        lexer: Lexer::new(&source.text),
        scope: Scope::default(),
        nesting: 0,
        found: BTreeMap::new(),
    };
    let body = parser.file()?;
    parser.define(&source.name, body, 0)?;
    Ok(parser.found)
}

/// Words that cannot be functions.
const KEYWORDS: [&str; 10] =
    ["block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"];

struct Parser<'a> {
    source: &'a Arc<Source>,
    lexer: Lexer<'a>,
    scope: Scope,
    nesting: usize,
    found: BTreeMap<Rc<str>, Template>,
}

/// What ended a list of nodes.
struct Stop<'a> {
    at: usize,
    kind: StopKind<'a>,
}

enum StopKind<'a> {
    End,
    Else,
    /// `else` with another word in the same action.
    ElseWord(&'a str),
    EndOfFile,
}

/// One thing of a list of nodes.
enum Item<'a> {
    Node(Node),
    Definition(usize),
    Stop(Stop<'a>),
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Result<Token<'a>> {
        self.lexer.next()
    }

    fn peek(&self) -> Result<Token<'a>> {
        let mut ahead = self.lexer;
        ahead.next()
    }

    /// Steps into something nested.
    fn enter(&mut self, at: usize) -> Result<()> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return Err(Problem::new(at, format!("nested more than {MAX_NESTING} levels deep")));
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.nesting -= 1;
    }

    fn file(&mut self) -> Result<Vec<Node>> {
        let mut body = Vec::new();
        loop {
            match self.item()? {
                Item::Node(node) => body.push(node),
                Item::Definition(at) => self.definition(at)?,
                Item::Stop(Stop { kind: StopKind::EndOfFile, .. }) => return Ok(body),
                Item::Stop(Stop { at, kind: StopKind::End }) => {
                    return Err(Problem::new(at, "unexpected {{end}}").hint("nothing is open here"));
                }
                Item::Stop(Stop { at, .. }) => {
                    return Err(Problem::new(at, "unexpected {{else}}").hint("nothing is open here"));
                }
            }
        }
    }

    /// Nodes up to `end` or `else`.
    fn list(&mut self, opened: usize, what: &str) -> Result<(Vec<Node>, Stop<'a>)> {
        self.enter(opened)?;
        let mut body = Vec::new();
        let stop = loop {
            match self.item()? {
                Item::Node(node) => body.push(node),
                Item::Definition(at) => {
                    return Err(Problem::new(
                        at,
                        format!("unexpected {{{{define}}}} inside of {{{{{what}}}}}"),
                    )
                    .hint("definitions stand at the outermost level of a file"));
                }
                Item::Stop(Stop { kind: StopKind::EndOfFile, .. }) => {
                    return Err(Problem::new(opened, format!("the {{{{{what}}}}} is not closed"))
                        .hint("close it with {{end}}"));
                }
                Item::Stop(stop) => break stop,
            }
        };
        self.leave();
        Ok((body, stop))
    }

    fn item(&mut self) -> Result<Item<'a>> {
        let token = self.next()?;
        match token.kind {
            Kind::Text(text) => Ok(Item::Node(Node::Text(token.at..token.at + text.len()))),
            Kind::End => Ok(Item::Stop(Stop { at: token.at, kind: StopKind::EndOfFile })),
            _ => self.action(token.at), // outside of an action there is nothing else than `{{`
        }
    }

    fn action(&mut self, at: usize) -> Result<Item<'a>> {
        let Kind::Word(word) = self.peek()?.kind else {
            return Ok(Item::Node(Node::Action(self.pipeline("command", false, Kind::Close)?)));
        };
        if !KEYWORDS.contains(&word) {
            return Ok(Item::Node(Node::Action(self.pipeline("command", false, Kind::Close)?)));
        }
        self.next()?;
        let node = match word {
            "if" => Node::If(self.choice(at, "if")?),
            "with" => Node::With(self.choice(at, "with")?),
            "range" => Node::Range(self.range(at)?),
            "template" => Node::Call(self.template_call(at)?),
            "block" => Node::Call(self.block(at)?),
            "break" | "continue" => self.jump(at, word)?,
            "define" => return Ok(Item::Definition(at)),
            "end" => {
                self.close("end")?;
                return Ok(Item::Stop(Stop { at, kind: StopKind::End }));
            }
            _ => return self.after_else(at).map(Item::Stop),
        };
        Ok(Item::Node(node))
    }

    fn after_else(&mut self, at: usize) -> Result<Stop<'a>> {
        let token = self.next()?;
        match token.kind {
            Kind::Close => Ok(Stop { at, kind: StopKind::Else }),
            Kind::Word(word @ ("if" | "with")) => Ok(Stop { at, kind: StopKind::ElseWord(word) }),
            kind => Err(Problem::new(token.at, format!("unexpected {} after else", kind.describe()))),
        }
    }

    fn close(&mut self, context: &str) -> Result<()> {
        let token = self.next()?;
        match token.kind {
            Kind::Close => Ok(()),
            kind => Err(Problem::new(token.at, format!("unexpected {} in {context}", kind.describe()))),
        }
    }

    fn jump(&mut self, at: usize, word: &str) -> Result<Node> {
        self.close(word)?;
        if self.scope.loops == 0 {
            return Err(Problem::new(at, format!("{{{{{word}}}}} outside of {{{{range}}}}")));
        }
        Ok(if word == "break" { Node::Break } else { Node::Continue })
    }

    /// `if` or `with`, the word being read already.
    fn choice(&mut self, at: usize, word: &str) -> Result<Box<Choice>> {
        let mark = self.scope.mark();
        let mut branches = Vec::new();
        let otherwise = loop {
            let condition = self.pipeline(word, false, Kind::Close)?;
            let (body, stop) = self.list(at, word)?;
            branches.push((condition, body));
            match stop.kind {
                StopKind::ElseWord(again) if again == word => {}
                StopKind::ElseWord(other) => {
                    let message = format!("unexpected {{{{else {other}}}}} in {{{{{word}}}}}");
                    return Err(Problem::new(stop.at, message));
                }
                StopKind::Else => break self.last_list(at, word)?,
                StopKind::End | StopKind::EndOfFile => break Vec::new(),
            }
        };
        self.scope.back_to(mark);
        Ok(Box::new(Choice { branches, otherwise }))
    }

    /// What stands between `else` and `end`.
    fn last_list(&mut self, at: usize, word: &str) -> Result<Vec<Node>> {
        let (body, stop) = self.list(at, word)?;
        match stop.kind {
            StopKind::End => Ok(body),
            _ => Err(Problem::new(stop.at, format!("a second {{{{else}}}} in {{{{{word}}}}}"))),
        }
    }

    fn range(&mut self, at: usize) -> Result<Box<Loop>> {
        let mark = self.scope.mark();
        let over = self.pipeline("range", true, Kind::Close)?;
        self.scope.loops += 1;
        let (body, stop) = self.list(at, "range")?;
        self.scope.loops -= 1;
        let otherwise = match stop.kind {
            StopKind::Else => self.last_list(at, "range")?,
            StopKind::ElseWord(word) => {
                return Err(Problem::new(
                    stop.at,
                    format!("unexpected {{{{else {word}}}}} in {{{{range}}}}"),
                ));
            }
            StopKind::End | StopKind::EndOfFile => Vec::new(),
        };
        self.scope.back_to(mark);
        Ok(Box::new(Loop { over, body, otherwise }))
    }

    fn name(&mut self, context: &str) -> Result<String> {
        let token = self.next()?;
        match token.kind {
            Kind::Quoted(text) => literal::quoted(text).map_err(|message| Problem::new(token.at, message)),
            kind => Err(Problem::new(token.at, format!("unexpected {} in {context}", kind.describe()))
                .hint("the name of a template stands in quotes")),
        }
    }

    fn template_call(&mut self, at: usize) -> Result<Box<TemplateCall>> {
        let name = self.name("template")?;
        if self.peek()?.kind == Kind::Close {
            self.next()?;
            return Ok(Box::new(TemplateCall { at, name, argument: None }));
        }
        let argument = Some(self.pipeline("template", false, Kind::Close)?);
        Ok(Box::new(TemplateCall { at, name, argument }))
    }

    fn block(&mut self, at: usize) -> Result<Box<TemplateCall>> {
        let name = self.name("block")?;
        let argument: Pipeline = self.pipeline("block", false, Kind::Close)?;
        self.template_body(at, "block", &name)?;
        Ok(Box::new(TemplateCall { at, name, argument: Some(argument) }))
    }

    fn definition(&mut self, at: usize) -> Result<()> {
        let name = self.name("define")?;
        self.close("define")?;
        self.template_body(at, "define", &name)
    }

    /// The body of a template within the file: it sees no variables of what is around it.
    fn template_body(&mut self, at: usize, word: &str, name: &str) -> Result<()> {
        let outer = std::mem::take(&mut self.scope);
        let (body, stop) = self.list(at, word)?;
        if !matches!(stop.kind, StopKind::End) {
            return Err(Problem::new(stop.at, format!("unexpected {{{{else}}}} in {{{{{word}}}}}")));
        }
        self.scope = outer;
        self.define(name, body, at)
    }

    /// Within a file a name has one definition, not counting those of only blanks.
    fn define(&mut self, name: &str, body: Vec<Node>, at: usize) -> Result<()> {
        let template = Template::new(self.source.clone(), body);
        match self.found.get(name) {
            Some(known) if !known.is_blank && !template.is_blank => {
                return Err(Problem::new(at, format!("template {name:?} is defined twice in this file")));
            }
            Some(_) if template.is_blank => {}
            _ => {
                self.found.insert(name.into(), template);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
