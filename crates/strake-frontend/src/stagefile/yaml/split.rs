use strake_graph::Span;

/// The documents of a text, without those that have nothing but blanks and comments.
///
/// A separator is a line that is `---`, with blanks and a comment behind it if you like. Other lines that begin
/// with `---` are left to the parser.
pub(crate) fn documents(text: &str) -> Vec<Span> {
    let mut documents = Vec::new();
    let mut start = 0;
    let mut position = 0;
    for line in text.split_inclusive('\n') {
        let end = position + line.len();
        if is_separator(line) {
            documents.push(Span::new(start, position));
            start = end;
        }
        position = end;
    }
    documents.push(Span::new(start, text.len()));
    documents.retain(|span| text[span.start..span.end].lines().any(says_something));
    documents
}

fn is_separator(line: &str) -> bool {
    let rest = line.strip_prefix("---").map(|rest| rest.trim_start_matches([' ', '\t', '\r']));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['\n', '#']))
}

fn says_something(line: &str) -> bool {
    let line = line.trim_matches(|letter: char| letter.is_whitespace() || letter == '\u{feff}');
    !line.is_empty() && !line.starts_with('#')
}
