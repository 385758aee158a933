use super::super::ImportPosition;
use super::super::decode::{Decoder, Fields};
use super::super::yaml::Node;
use super::ImportDraft;
use crate::Diagnostic;

const KEYS: [&str; 9] =
    ["artifact", "before", "after", "add", "to", "owner", "group", "includePaths", "excludePaths"];

/// `import`
pub(super) fn decode(decoder: &mut Decoder<'_>, fields: &Fields<'_>) -> Vec<ImportDraft> {
    let nodes = fields.get("import").map_or(&[][..], |node| decoder.items(node, "`import`"));
    nodes.iter().filter_map(|node| entry(decoder, node)).collect()
}

fn entry(decoder: &mut Decoder<'_>, node: &Node) -> Option<ImportDraft> {
    let fields = decoder.fields(node, "an `import`", &KEYS)?;
    for (key, hint) in
        [("artifact", "give the name of an artifact"), ("add", "give an absolute path in the artifact")]
    {
        if fields.get(key).is_none() {
            let message = format!("the import has no `{key}`");
            decoder.push(Diagnostic::error("import-incomplete", fields.span, message).hint(hint));
        }
    }
    let artifact = decoder.text_of(&fields, "artifact");
    let position = position(decoder, &fields);
    let add = decoder.absolute_of(&fields, "add").map(|path| path.value);
    let to = match fields.get("to") {
        Some(_) => decoder.absolute_of(&fields, "to").map(|path| path.value),
        None => add.clone(),
    };
    let owner = decoder.text_of(&fields, "owner").map(|text| text.value);
    let group = decoder.text_of(&fields, "group").map(|text| text.value);
    let include = decoder.patterns_of(&fields, "includePaths");
    let exclude = decoder.patterns_of(&fields, "excludePaths");
    Some(ImportDraft {
        artifact: artifact?,
        position: position?,
        add: add?,
        to: to?,
        owner,
        group,
        include,
        exclude,
        yields: Vec::new(),
        span: fields.span,
    })
}

fn position(decoder: &mut Decoder<'_>, fields: &Fields<'_>) -> Option<ImportPosition> {
    const HINT: &str = "give `before` or `after`, with `install` or `setup`";
    let key = match (fields.key_span("before"), fields.key_span("after")) {
        (Some(_), None) => "before",
        (None, Some(_)) => "after",
        (Some(before), Some(after)) => {
            let message = "an import is `before` or `after` a stage, not both";
            let diagnostic = Diagnostic::error("import-position", after, message);
            decoder.push(diagnostic.note(before, "the other is here"));
            return None;
        }
        (None, None) => {
            let message = "the import does not say before or after which stage it comes";
            decoder.push(Diagnostic::error("import-position", fields.span, message).hint(HINT));
            return None;
        }
    };
    let stage = decoder.text_of(fields, key)?;
    match (key, stage.value.as_str()) {
        ("before", "install") => Some(ImportPosition::BeforeInstall),
        ("after", "install") => Some(ImportPosition::AfterInstall),
        ("before", "setup") => Some(ImportPosition::BeforeSetup),
        ("after", "setup") => Some(ImportPosition::AfterSetup),
        (_, other) => {
            let message = format!("`{key}` of an import is `install` or `setup`, not `{other}`");
            decoder.error("import-position", stage.span, message);
            None
        }
    }
}
