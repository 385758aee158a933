//! `--chmod`, octal and symbolic, as `chmod(1)` does it.

use strake_graph::{ModeChange, ModeClause};

const SET_IDS: u32 = 0o6000;
const STICKY: u32 = 0o1000;

/// The mode after a change.
pub(super) fn changed(change: Option<&ModeChange>, mode: u32, is_dir: bool) -> u32 {
    match change {
        None => mode,
        Some(ModeChange::Octal(mode)) => mode & 0o7777,
        Some(ModeChange::Symbolic(clauses)) => {
            clauses.iter().fold(mode, |mode, clause| apply(clause, mode, is_dir))
        }
    }
}

fn apply(clause: &ModeClause, mode: u32, is_dir: bool) -> u32 {
    let mut permissions = clause.permissions & 0o7;
    if clause.conditional_execute && (is_dir || mode & 0o111 != 0) {
        permissions |= 0o1;
    }
    permissions |= match clause.copy_from {
        Some('u') => mode >> 6 & 0o7,
        Some('g') => mode >> 3 & 0o7,
        Some('o') => mode & 0o7,
        _ => 0,
    };
    let mut bits = (permissions * 0o111) & clause.who;
    if clause.set_id {
        bits |= SET_IDS & clause.who;
    }
    if clause.sticky {
        bits |= STICKY;
    }
    match clause.operator {
        '+' => mode | bits,
        '-' => mode & !bits,
        _ => {
            // What is set anew loses everything of whom it is about; chmod(1) spares set-id bits of directories.
            let spared = if is_dir && !clause.set_id { SET_IDS } else { 0 };
            mode & !(clause.who & !spared) | bits
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clause(who: u32, operator: char, permissions: u32) -> ModeClause {
        ModeClause {
            who,
            operator,
            permissions,
            conditional_execute: false,
            set_id: false,
            sticky: false,
            copy_from: None,
        }
    }

    const USER: u32 = 0o4700;
    const GROUP: u32 = 0o2070;
    const OTHERS: u32 = 0o1007;

    #[test]
    fn modes_change_as_chmod_does() {
        let all = USER | GROUP | OTHERS;
        let symbolic = |clauses: &[ModeClause], mode, is_dir| {
            changed(Some(&ModeChange::Symbolic(clauses.to_vec())), mode, is_dir)
        };
        assert_eq!(changed(None, 0o4755, false), 0o4755);
        assert_eq!(changed(Some(&ModeChange::Octal(0o4711)), 0o644, true), 0o4711);
        assert_eq!(symbolic(&[clause(USER, '+', 1)], 0o644, false), 0o744);
        assert_eq!(symbolic(&[clause(GROUP | OTHERS, '-', 7)], 0o777, false), 0o700);
        assert_eq!(symbolic(&[clause(all, '=', 4)], 0o7777, false), 0o444);
        let execute = ModeClause { conditional_execute: true, ..clause(USER, '=', 6) };
        let read = ModeClause { conditional_execute: true, ..clause(GROUP | OTHERS, '=', 4) };
        assert_eq!(symbolic(&[execute, read], 0o600, false), 0o644);
        assert_eq!(symbolic(&[execute, read], 0o700, false), 0o755);
        assert_eq!(symbolic(&[execute, read], 0o600, true), 0o755);
        assert_eq!(
            symbolic(&[ModeClause { copy_from: Some('u'), ..clause(GROUP, '=', 0) }], 0o750, false),
            0o770
        );
        assert_eq!(symbolic(&[ModeClause { set_id: true, ..clause(USER, '+', 0) }], 0o755, false), 0o4755);
        assert_eq!(symbolic(&[ModeClause { sticky: true, ..clause(all, '+', 0) }], 0o755, true), 0o1755);
        assert_eq!(symbolic(&[clause(all, '=', 5)], 0o2700, true), 0o2555);
    }
}
