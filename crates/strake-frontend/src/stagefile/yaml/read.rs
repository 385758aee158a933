use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use strake_graph::Span;

use super::{Entry, Kind, Node, Scalar, Value};
use crate::Diagnostic;

/// How many lists and maps may stand within each other: far more than any stage file has, and few enough that no
/// recursion over a tree can exhaust the stack.
const MAX_DEPTH: usize = 64;

/// What a document may hold after all aliases were followed: the bytes of its scalars, and [`NODE_WEIGHT`] for each
/// node. An eighth of a million nodes; a few dozen megabytes.
const MAX_WEIGHT: usize = 4 << 20;

const NODE_WEIGHT: usize = 32;

/// Reads one document, which is the part `document` of `text`. `None` if it has no usable tree; what is wrong with
/// it is added to `diagnostics`.
pub(crate) fn read(text: &str, document: Span, diagnostics: &mut Vec<Diagnostic>) -> Option<Node> {
    let slice = &text[document.start..document.end];
    let before = diagnostics.len();
    let mut reader = Reader {
        places: Places::new(slice, document.start),
        frames: Vec::new(),
        anchors: BTreeMap::new(),
        weight: 0,
        root: None,
        diagnostics,
    };
    if let Err(diagnostic) = reader.run(slice) {
        reader.diagnostics.push(diagnostic);
    }
    let root = reader.root;
    // A tree in which something is missing would only cause errors that are none.
    if diagnostics.len() > before {
        return None;
    }
    if root.is_none() {
        diagnostics.push(Diagnostic::error("yaml-syntax", document, "there is nothing in this document"));
    }
    root
}

struct Reader<'d> {
    places: Places,
    frames: Vec<Frame>,
    /// The nodes that `&name` marks, with their weight.
    anchors: BTreeMap<usize, (Node, usize)>,
    weight: usize,
    root: Option<Node>,
    diagnostics: &'d mut Vec<Diagnostic>,
}

/// A list or map that is not closed yet.
struct Frame {
    start: usize,
    anchor: usize,
    /// The weight when it was opened.
    weight: usize,
    kind: FrameKind,
}

enum FrameKind {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<Node> },
}

impl Reader<'_> {
    fn run(&mut self, slice: &str) -> Result<(), Diagnostic> {
        let mut parser = Parser::new_from_str(slice);
        let mut documents = 0;
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.syntax(&error))?;
            let span = self.places.span(span);
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let message = "a second document begins here without a separator";
                        return Err(Diagnostic::error("yaml-syntax", span, message)
                            .hint("put `---` on a line of its own between documents"));
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let weight = self.weight;
                    self.weigh(NODE_WEIGHT + text.len(), span)?;
                    let scalar = self.scalar(text.into_owned(), style, tag.as_deref(), span);
                    self.complete(Node { span, kind: Kind::Scalar(scalar) }, anchor, weight)?;
                }
                Event::Alias(anchor) => self.alias(anchor, span)?,
                Event::SequenceStart(anchor, tag) => {
                    self.check_tag(tag.as_deref(), "seq", span);
                    self.open(FrameKind::List(Vec::new()), anchor, span)?;
                }
                Event::MappingStart(anchor, tag) => {
                    self.check_tag(tag.as_deref(), "map", span);
                    self.open(FrameKind::Map { entries: Vec::new(), key: None }, anchor, span)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        Ok(())
    }

    fn weigh(&mut self, weight: usize, span: Span) -> Result<(), Diagnostic> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight <= MAX_WEIGHT {
            return Ok(());
        }
        let message = "the document is too large, with everything its aliases stand for";
        Err(Diagnostic::error("yaml-size", span, message).hint("split it, or use fewer aliases (`*name`)"))
    }

    fn open(&mut self, kind: FrameKind, anchor: usize, span: Span) -> Result<(), Diagnostic> {
        if self.frames.len() == MAX_DEPTH {
            let message = format!("more than {MAX_DEPTH} lists and maps within each other");
            return Err(Diagnostic::error("yaml-depth", span, message));
        }
        let weight = self.weight;
        self.weigh(NODE_WEIGHT, span)?;
        self.frames.push(Frame { start: span.start, anchor, weight, kind });
        Ok(())
    }

    fn close(&mut self, span: Span) -> Result<(), Diagnostic> {
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let Frame { start, anchor, weight, kind } = frame;
        let (kind, last) = match kind {
            FrameKind::List(nodes) => {
                let last = nodes.last().map(|node| node.span.end);
                (Kind::List(nodes), last)
            }
            FrameKind::Map { entries, key: _ } => {
                let last = entries.last().map(|entry| entry.node.span.end.max(entry.key_span.end));
                (Kind::Map(self.finish_map(entries)), last)
            }
        };
        // A block ends where the next thing begins, which may be many lines below its last entry.
        let closes_itself = span.end > span.start;
        let end = if closes_itself { span.end } else { last.unwrap_or(span.end) };
        self.complete(Node { span: Span::new(start, end.max(start)), kind }, anchor, weight)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Diagnostic> {
        let Some((node, weight)) = self.anchors.get(&anchor) else {
            let message = "the alias stands within what it is an alias of";
            return Err(Diagnostic::error("yaml-alias", span, message));
        };
        let (node, weight) = (node.clone(), *weight);
        let before = self.weight;
        self.weigh(weight, span)?;
        self.complete(node, 0, before)
    }

    /// Puts a node where it belongs. `before` is the weight before its first part.
    fn complete(&mut self, node: Node, anchor: usize, before: usize) -> Result<(), Diagnostic> {
        if anchor != 0 {
            let weight = self.weight - before;
            self.weigh(weight, node.span)?;
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        match self.frames.last_mut().map(|frame| &mut frame.kind) {
            None => self.root = Some(node),
            Some(FrameKind::List(nodes)) => nodes.push(node),
            Some(FrameKind::Map { entries, key }) => match key.take() {
                None => *key = Some(node),
                Some(Node { span, kind: Kind::Scalar(scalar) }) => {
                    entries.push(Entry { key: scalar, key_span: span, node });
                }
                Some(key) => {
                    let message = format!("{} cannot be a key", key.describe());
                    self.diagnostics.push(
                        Diagnostic::error("wrong-type", key.span, message)
                            .hint("a text that begins with `{` or `[` must stand in quotes"),
                    );
                }
            },
        }
        Ok(())
    }

    /// Merges what `<<` names and refuses keys that occur twice.
    fn finish_map(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let (merges, entries): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.key.is_merge());
        let mut seen: BTreeMap<String, Span> = BTreeMap::new();
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries {
            if let Some(first) = seen.get(&key_text(&entry.key)) {
                let message = format!("the key `{}` occurs twice", entry.key.text);
                self.diagnostics.push(
                    Diagnostic::error("duplicate-key", entry.key_span, message)
                        .note(*first, "it is here first"),
                );
                continue;
            }
            seen.insert(key_text(&entry.key), entry.key_span);
            kept.push(entry);
        }
        for merge in merges {
            let nodes = match merge.node.kind {
                Kind::List(nodes) => nodes,
                kind => vec![Node { span: merge.node.span, kind }],
            };
            for node in nodes {
                let Kind::Map(entries) = node.kind else {
                    let message = "`<<` takes a map or a list of maps";
                    self.diagnostics.push(Diagnostic::error("wrong-type", node.span, message));
                    continue;
                };
                for entry in entries {
                    if seen.insert(key_text(&entry.key), entry.key_span).is_none() {
                        kept.push(entry);
                    }
                }
            }
        }
        kept
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Scalar {
        let Some(tag) = tag else {
            return if style == ScalarStyle::Plain { Scalar::plain(text) } else { Scalar::quoted(text) };
        };
        let suffix = if tag.is_yaml_core_schema() { tag.suffix.as_str() } else { "" };
        let fits = |value| match suffix {
            "null" => value == Value::Null,
            "bool" => matches!(value, Value::Bool(_)),
            "int" => matches!(value, Value::Int(_) | Value::Uint(_)),
            "float" => matches!(value, Value::Int(_) | Value::Uint(_) | Value::Float(_)),
            _ => false,
        };
        let scalar = Scalar { plain: false, ..Scalar::plain(text.clone()) };
        if suffix == "str" || (tag.handle.is_empty() && tag.suffix == "!") {
            return Scalar::quoted(text);
        }
        if !fits(scalar.value) {
            self.diagnostics.push(unknown_tag(tag, span));
        }
        scalar
    }

    fn check_tag(&mut self, tag: Option<&Tag>, wanted: &str, span: Span) {
        if let Some(tag) = tag.filter(|tag| !(tag.is_yaml_core_schema() && tag.suffix == wanted)) {
            self.diagnostics.push(unknown_tag(tag, span));
        }
    }

    fn syntax(&self, error: &ScanError) -> Diagnostic {
        let at = self.places.offset(error.marker().index());
        let span = Span::new(at, at);
        let message = format!("this is not YAML: {}", error.info());
        let diagnostic = Diagnostic::error("yaml-syntax", span, message);
        if error.info().contains("tab") {
            return diagnostic.hint("YAML is indented with blanks, never with tabs");
        }
        diagnostic
    }
}

fn unknown_tag(tag: &Tag, span: Span) -> Diagnostic {
    let message = format!("the tag `{}{}` does not fit here", tag.handle, tag.suffix);
    Diagnostic::error("unknown-tag", span, message).hint("leave it out")
}

/// What makes a key the same key: `yes` and `true` are one.
fn key_text(key: &Scalar) -> String {
    match key.value {
        Value::Null => "~".into(),
        Value::Bool(value) => format!("b{value}"),
        Value::Int(value) => format!("i{value}"),
        Value::Uint(value) => format!("i{value}"),
        Value::Float(value) => format!("f{value}"),
        Value::Text => format!("t{}", key.text),
    }
}

/// From the parser's characters within a slice to bytes of the whole text.
struct Places {
    base: usize,
    length: usize,
    /// The offset of each character; empty when all are one byte.
    offsets: Vec<usize>,
}

impl Places {
    fn new(slice: &str, base: usize) -> Self {
        let offsets =
            if slice.is_ascii() { Vec::new() } else { slice.char_indices().map(|(at, _)| at).collect() };
        Self { base, length: slice.len(), offsets }
    }

    fn offset(&self, character: usize) -> usize {
        let within = match self.offsets.is_empty() {
            true => character,
            false => self.offsets.get(character).copied().unwrap_or(self.length),
        };
        self.base + within.min(self.length)
    }

    fn span(&self, span: saphyr_parser::Span) -> Span {
        let start = self.offset(span.start.index());
        Span::new(start, self.offset(span.end.index()).max(start))
    }
}
