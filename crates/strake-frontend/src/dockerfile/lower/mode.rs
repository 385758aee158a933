//! Modes of `--chmod`: octal, or symbolic as in chmod(1).

use strake_graph::{ModeChange, ModeClause};

/// Reads `0755` or `u=rwX,go=rX`. Clauses without `u`, `g`, `o` or `a` mean everybody: a build has no umask.
pub(super) fn parse(text: &str) -> Result<ModeChange, String> {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
        return mode.map(ModeChange::Octal).ok_or_else(|| "an octal mode is from 0 to 07777".to_owned());
    }
    let mut clauses = Vec::new();
    for clause in text.split(',') {
        parse_clause(clause, &mut clauses)?;
    }
    Ok(ModeChange::Symbolic(clauses))
}

fn parse_clause(clause: &str, clauses: &mut Vec<ModeClause>) -> Result<(), String> {
    let mut who = 0;
    let mut letters = clause.chars().peekable();
    while let Some(mask) = letters.peek().copied().and_then(who_mask) {
        who |= mask;
        letters.next();
    }
    if who == 0 {
        who = 0o7777;
    }
    if letters.peek().is_none() {
        return Err(format!("`{clause}` lacks one of + - ="));
    }
    while let Some(operator) = letters.next() {
        if !matches!(operator, '+' | '-' | '=') {
            return Err(format!("`{operator}` is none of + - ="));
        }
        let mut parsed = ModeClause {
            who,
            operator,
            permissions: 0,
            conditional_execute: false,
            set_id: false,
            sticky: false,
            copy_from: None,
        };
        let mut is_first = true;
        while let Some(letter) = letters.next_if(|letter| !matches!(letter, '+' | '-' | '=')) {
            if parsed.copy_from.is_some() {
                return Err("u, g and o stand alone behind the operator".into());
            }
            match letter {
                'r' => parsed.permissions |= 0o4,
                'w' => parsed.permissions |= 0o2,
                'x' => parsed.permissions |= 0o1,
                'X' => parsed.conditional_execute = true,
                's' => parsed.set_id = true,
                't' => parsed.sticky = true,
                'u' | 'g' | 'o' if is_first => parsed.copy_from = Some(letter),
                other => return Err(format!("`{other}` is none of r w x X s t u g o")),
            }
            is_first = false;
        }
        clauses.push(parsed);
    }
    Ok(())
}

fn who_mask(letter: char) -> Option<u32> {
    match letter {
        'u' => Some(0o4700),
        'g' => Some(0o2070),
        'o' => Some(0o1007),
        'a' => Some(0o7777),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clauses(text: &str) -> Vec<ModeClause> {
        match parse(text) {
            Ok(ModeChange::Symbolic(clauses)) => clauses,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn modes_are_read() {
        assert_eq!(parse("0755"), Ok(ModeChange::Octal(0o755)));
        assert_eq!(parse("7777"), Ok(ModeChange::Octal(0o7777)));
        let two = clauses("u=rwX,go=rX");
        assert_eq!((two[0].who, two[0].permissions, two[0].conditional_execute), (0o4700, 0o6, true));
        assert_eq!((two[1].who, two[1].permissions), (0o3077, 0o4));
        assert_eq!(clauses("a+x-w").len(), 2);
        assert_eq!(clauses("g=u")[0].copy_from, Some('u'));
        assert_eq!(clauses("+st")[0].who, 0o7777);
        assert_eq!(clauses("o=")[0].permissions, 0);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "8", "77777", "0x1", "u", "u=q", "=g,", "u*r", "ug", "g=ur", "u=rg", "-1a", "99999999999"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
