//! `RUN --mount=…`.

use strake_graph::{Sharing, Span};

use crate::Diagnostic;
use crate::diagnostic::nearest;
use crate::dockerfile::ast::Word;

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

/// Keys and the types they belong to.
const KEYS: [(&str, &[&str]); 18] = [
    ("type", &["bind", "cache", "tmpfs", "secret", "ssh"]),
    ("target", &["bind", "cache", "tmpfs", "secret", "ssh"]),
    ("dst", &["bind", "cache", "tmpfs", "secret", "ssh"]),
    ("destination", &["bind", "cache", "tmpfs", "secret", "ssh"]),
    ("source", &["bind", "cache", "secret"]),
    ("src", &["bind", "cache", "secret"]),
    ("from", &["bind", "cache"]),
    ("readonly", &["bind", "cache"]),
    ("ro", &["bind", "cache"]),
    ("readwrite", &["bind", "cache"]),
    ("rw", &["bind", "cache"]),
    ("id", &["cache", "secret", "ssh"]),
    ("sharing", &["cache"]),
    ("required", &["secret", "ssh"]),
    ("env", &["secret"]),
    ("mode", &["cache", "secret", "ssh"]),
    ("uid", &["cache", "secret", "ssh"]),
    ("gid", &["cache", "secret", "ssh"]),
];

/// A mount as written. Its values may hold variables, except for `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dockerfile) struct MountSpec {
    fields: Vec<(String, Option<String>)>,
    /// The stage, context or image that files come from.
    pub(in crate::dockerfile) from: Option<Word>,
    pub(in crate::dockerfile) span: Span,
}

/// A mount whose values are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::dockerfile) struct Settings {
    pub(in crate::dockerfile) kind: Kind,
    pub(in crate::dockerfile) target: Option<String>,
    pub(in crate::dockerfile) source: Option<String>,
    pub(in crate::dockerfile) writable: Option<bool>,
    pub(in crate::dockerfile) id: Option<String>,
    pub(in crate::dockerfile) sharing: Sharing,
    pub(in crate::dockerfile) required: bool,
    pub(in crate::dockerfile) env: Option<String>,
    pub(in crate::dockerfile) mode: Option<u32>,
    pub(in crate::dockerfile) uid: u32,
    pub(in crate::dockerfile) gid: u32,
    pub(in crate::dockerfile) size: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::dockerfile) enum Kind {
    #[default]
    Bind,
    Cache,
    Tmpfs,
    Secret,
}

impl MountSpec {
    /// Reads `type=cache,target=/x`. Values without variables are checked at once.
    pub(in crate::dockerfile) fn parse(word: &Word) -> Result<Self, Diagnostic> {
        let mut fields: Vec<(String, Option<String>)> = Vec::new();
        for field in csv_fields(&word.text) {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_ascii_lowercase(), Some(value.to_owned())),
                None => (field.to_ascii_lowercase(), None),
            };
            if fields.len() > KEYS.len() {
                return Err(invalid(word.span, "the mount has more options than there are".into()));
            }
            if fields.iter().any(|(earlier, _)| *earlier == key) {
                return Err(invalid(word.span, format!("mount option `{key}` is given twice")));
            }
            fields.push((key, value));
        }
        let mut spec = Self { fields, from: None, span: word.span };
        spec.from = spec.value("from").map(|text| Word { text: text.to_owned(), span: word.span });
        if spec.from.as_ref().is_some_and(|from| from.text.contains('$')) {
            return Err(Diagnostic::error(
                "variable-in-from",
                word.span,
                "variables are not replaced in `from`",
            )
            .hint("give the image a stage of its own: FROM $IMAGE AS name"));
        }
        let kind = spec.value("type").unwrap_or("bind");
        spec.check_keys(if kind.contains('$') { None } else { Some(kind) })?;
        let is_known = |(_, value): &(String, Option<String>)| !value.iter().any(|value| value.contains('$'));
        if spec.fields.iter().all(is_known) {
            spec.resolve(&mut |text| Some(text.to_owned()))?;
        }
        Ok(spec)
    }

    /// What the mount is, its values expanded by `expand` (which has said itself what is wrong when it gives
    /// `None`; then nothing more is said here).
    pub(in crate::dockerfile) fn resolve(
        &self,
        expand: &mut dyn FnMut(&str) -> Option<String>,
    ) -> Result<Option<Settings>, Diagnostic> {
        let mut settings = Settings::default();
        let mut kind_name = "bind".to_owned();
        if let Some(text) = self.value("type") {
            let Some(text) = expand(text) else { return Ok(None) };
            settings.kind = self.kind(&text)?;
            kind_name = text;
        }
        self.check_keys(Some(&kind_name))?;
        for (key, value) in &self.fields {
            let value = match value {
                Some(text) => match expand(text) {
                    Some(text) => Some(text),
                    None => return Ok(None),
                },
                None => None,
            };
            self.set(&mut settings, key, value)?;
        }
        self.check_whole(&settings)?;
        Ok(Some(settings))
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.fields.iter().find(|(name, _)| name == key).and_then(|(_, value)| value.as_deref())
    }

    fn kind(&self, text: &str) -> Result<Kind, Diagnostic> {
        match text {
            "bind" => Ok(Kind::Bind),
            "cache" => Ok(Kind::Cache),
            "tmpfs" => Ok(Kind::Tmpfs),
            "secret" => Ok(Kind::Secret),
            "ssh" => {
                Err(Diagnostic::error("unsupported-flag", self.span, "not supported yet: `--mount=type=ssh`")
                    .hint(
                        "mount the key as a secret: --mount=type=secret,id=NAME,target=/root/.ssh/id_ed25519",
                    ))
            }
            other => {
                let diagnostic = invalid(self.span, format!("`{other}` is not a mount type"));
                Err(match nearest(other, &TYPES) {
                    Some(name) => diagnostic.hint(format!("did you mean `{name}`?")),
                    None => diagnostic.hint("known: bind, cache, tmpfs, secret"),
                })
            }
        }
    }

    /// Whether all keys exist, and belong to the type if it is known.
    fn check_keys(&self, kind: Option<&str>) -> Result<(), Diagnostic> {
        for (key, _) in &self.fields {
            let known = KEYS.iter().find(|(name, _)| name == key).map(|(_, kinds)| *kinds);
            let kinds: &[&str] = if key == "size" { &["tmpfs"] } else { known.unwrap_or(&[]) };
            if kinds.is_empty() {
                let diagnostic = invalid(self.span, format!("a mount has no option `{key}`"));
                let names: Vec<&str> = KEYS.iter().map(|(name, _)| *name).chain(["size"]).collect();
                return Err(match nearest(key, &names) {
                    Some(name) => diagnostic.hint(format!("did you mean `{name}`?")),
                    None => diagnostic,
                });
            }
            if let Some(kind) = kind.filter(|kind| TYPES.contains(kind) && !kinds.contains(kind)) {
                let message = format!("a {kind} mount has no option `{key}` ({} only)", kinds.join(", "));
                return Err(invalid(self.span, message));
            }
        }
        Ok(())
    }

    fn set(&self, settings: &mut Settings, key: &str, value: Option<String>) -> Result<(), Diagnostic> {
        if matches!(key, "readonly" | "ro" | "readwrite" | "rw" | "required") {
            let value = self.boolean(key, value.as_deref())?;
            match key {
                "required" => settings.required = value,
                "readonly" | "ro" => settings.writable = Some(!value),
                _ => settings.writable = Some(value),
            }
            return Ok(());
        }
        let Some(value) = value else {
            return Err(invalid(self.span, format!("mount option `{key}` lacks a value")));
        };
        match key {
            "target" | "dst" | "destination" => {
                settings.target = Some(value).filter(|value| !value.is_empty())
            }
            "source" | "src" => settings.source = Some(value).filter(|value| !value.is_empty()),
            "id" => settings.id = Some(value).filter(|value| !value.is_empty()),
            "env" => settings.env = Some(value).filter(|value| !value.is_empty()),
            "sharing" => settings.sharing = self.sharing(&value)?,
            "mode" => settings.mode = Some(self.number(key, &value, 8, 0o7777)?),
            "uid" => settings.uid = self.number(key, &value, 10, u32::MAX)?,
            "gid" => settings.gid = self.number(key, &value, 10, u32::MAX)?,
            "size" => {
                let size = parse_size(&value).ok_or_else(|| {
                    invalid(self.span, format!("`{value}` is not a size")).hint("for example 64m or 1g")
                });
                settings.size = Some(size?);
            }
            _ => {}
        }
        Ok(())
    }

    fn boolean(&self, key: &str, value: Option<&str>) -> Result<bool, Diagnostic> {
        match value.map(str::to_ascii_lowercase).as_deref() {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(invalid(
                self.span,
                format!("mount option `{key}` is either true or false, not `{other}`"),
            )),
        }
    }

    fn sharing(&self, value: &str) -> Result<Sharing, Diagnostic> {
        match value.to_ascii_lowercase().as_str() {
            "shared" => Ok(Sharing::Shared),
            "private" => Ok(Sharing::Private),
            "locked" => Ok(Sharing::Locked),
            other => {
                let diagnostic = invalid(self.span, format!("`{other}` is not a sharing mode"));
                let known = ["shared", "private", "locked"];
                Err(match nearest(other, &known) {
                    Some(name) => diagnostic.hint(format!("did you mean `{name}`?")),
                    None => diagnostic.hint("known: shared, private, locked"),
                })
            }
        }
    }

    fn number(&self, key: &str, value: &str, radix: u32, most: u32) -> Result<u32, Diagnostic> {
        let digits_only = value.bytes().all(|byte| byte.is_ascii_digit());
        let number = u32::from_str_radix(value, radix).ok().filter(|number| digits_only && *number <= most);
        number.ok_or_else(|| {
            let what = if radix == 8 { "octal mode of at most 07777" } else { "number" };
            invalid(self.span, format!("mount option `{key}`: `{value}` is not a {what}"))
        })
    }

    /// What single values cannot show.
    fn check_whole(&self, settings: &Settings) -> Result<(), Diagnostic> {
        let aliases: [&[&str]; 3] =
            [&["target", "dst", "destination"], &["source", "src"], &["readonly", "ro", "readwrite", "rw"]];
        for names in aliases {
            let mut given = self.fields.iter().filter(|(key, _)| names.contains(&key.as_str()));
            if let (Some((first, _)), Some((second, _))) = (given.next(), given.next()) {
                return Err(invalid(
                    self.span,
                    format!("mount options `{first}` and `{second}` say the same thing"),
                ));
            }
        }
        if settings.kind == Kind::Secret {
            if settings.source.is_some() && settings.id.is_some() {
                return Err(invalid(
                    self.span,
                    "a secret mount has either `id` or `source`, not both".into(),
                ));
            }
            if settings.source.is_none() && settings.id.is_none() && settings.target.is_none() {
                return Err(invalid(self.span, "a secret mount needs an `id`".into())
                    .hint("for example --mount=type=secret,id=token"));
            }
        } else if settings.target.is_none() {
            return Err(invalid(self.span, "a mount needs a `target`".into())
                .hint("for example --mount=type=cache,target=/root/.cache"));
        }
        Ok(())
    }
}

fn invalid(span: Span, message: String) -> Diagnostic {
    Diagnostic::error("invalid-mount", span, message)
}

/// The fields of one line of comma-separated values; a field in double quotes may hold commas.
fn csv_fields(text: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(letter),
        }
    }
    fields.push(field);
    fields
}

/// Bytes of `64m`, `1g`, `1024`: binary units, with or without a trailing `b` or `ib`.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let shift = match text.get(digits..)?.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        let word = Word { text: text.to_owned(), span: Span::default() };
        let spec = MountSpec::parse(&word).map_err(|diagnostic| diagnostic.message)?;
        let settings =
            spec.resolve(&mut |text| Some(text.to_owned())).map_err(|diagnostic| diagnostic.message)?;
        Ok(settings.unwrap())
    }

    #[test]
    fn options_are_read() {
        let cache = parse("type=cache,target=/c,sharing=locked,uid=1,gid=2,mode=0700,ro").unwrap();
        assert_eq!((cache.kind, cache.sharing, cache.mode), (Kind::Cache, Sharing::Locked, Some(0o700)));
        assert_eq!((cache.uid, cache.gid, cache.writable), (1, 2, Some(false)));
        assert_eq!(parse("target=/x,rw").unwrap().writable, Some(true));
        assert_eq!(parse("type=tmpfs,target=/x,size=64m").unwrap().size, Some(64 << 20));
        assert_eq!(parse("type=secret,\"id=a,b\"").unwrap().id.as_deref(), Some("a,b"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "type=cach,target=/x",
            "type=cache",
            "type=bind,target=/x,sharing=shared",
            "type=secret",
            "type=secret,id=a,source=b",
            "type=cache,target=/x,mode=9",
            "type=cache,target=/x,mode=17777",
            "type=cache,target=/x,uid=-1",
            "type=cache,target=/x,uid=+1",
            "type=tmpfs,target=/x,size=1q",
            "type=tmpfs,target=/x,size=99999999999t",
            "target=/x,dst=/y",
            "target=/x,target=/y",
            "target=/x,from=$y",
            "target=/x,frm=y",
            "type=ssh",
            "target",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
