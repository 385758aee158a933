//! The comma-separated `key=value` lists of docker's flags, with the quoting of Go's `encoding/csv`.

/// Splits one record. A field in double quotes may hold commas, and `""` for a quote.
///
/// # Errors
/// A text that says what is wrong with the quotes.
pub(crate) fn split(record: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => plain_field(rest)?,
        };
        fields.push(field);
        match after {
            None => return Ok(fields),
            Some(text) => rest = text,
        }
    }
}

fn plain_field(text: &str) -> Result<(String, Option<&str>), String> {
    let (field, after) = match text.split_once(',') {
        Some((field, after)) => (field, Some(after)),
        None => (text, None),
    };
    if field.contains('"') {
        return Err(format!(
            "bare `\"` in `{field}`: put the whole field in quotes and write `\"\"` for a quote"
        ));
    }
    Ok((field.to_owned(), after))
}

/// A field behind its opening quote, and what follows the comma behind it.
fn quoted_field(text: &str) -> Result<(String, Option<&str>), String> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"').ok_or("a quoted field has no closing `\"`")?;
        field.push_str(part);
        if let Some(after) = after.strip_prefix('"') {
            field.push('"');
            rest = after;
        } else if after.is_empty() {
            return Ok((field, None));
        } else if let Some(after) = after.strip_prefix(',') {
            return Ok((field, Some(after)));
        } else {
            return Err("a comma must follow the closing `\"` of a field".to_owned());
        }
    }
}

/// Splits a record into keys and values. A field without `=` has no value; keys are lower-cased, as docker does.
///
/// # Errors
/// As [`split`], and for a field without a key.
pub(crate) fn pairs(record: &str) -> Result<Vec<(String, Option<String>)>, String> {
    let pair = |field: String| match field.split_once('=') {
        Some(("", _)) => Err(format!("`{field}` has no key in front of the `=`")),
        Some((key, value)) => Ok((key.trim().to_ascii_lowercase(), Some(value.to_owned()))),
        None => Ok((field.trim().to_ascii_lowercase(), None)),
    };
    split(record)?.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(record: &str, expect: &[&str]) {
        assert_eq!(split(record).unwrap(), expect, "{record}");
    }

    #[test]
    fn splits_as_go_does() {
        check("", &[""]);
        check("a", &["a"]);
        check("a,b", &["a", "b"]);
        check("a,", &["a", ""]);
        check("type=local,dest=out dir", &["type=local", "dest=out dir"]);
        check("type=tar,\"dest=a,b.tar\"", &["type=tar", "dest=a,b.tar"]);
        check("\"x\"\"y\",z", &["x\"y", "z"]);
        check("\"\",a", &["", "a"]);
    }

    #[test]
    fn refuses_broken_quotes() {
        for record in ["a\"b", "\"a", "\"a\"b", "x=\"y\"", "\"a\"\"", "a,\""] {
            assert!(split(record).is_err(), "{record}");
        }
    }

    #[test]
    fn pairs_have_lower_case_keys() {
        let found = pairs("Type=OCI,push").unwrap();
        assert_eq!(found, [("type".to_owned(), Some("OCI".to_owned())), ("push".to_owned(), None)]);
        assert!(pairs("=x").is_err());
    }
}
