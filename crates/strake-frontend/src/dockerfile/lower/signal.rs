//! Signals of `STOPSIGNAL`: Linux's names, with or without `SIG`, and numbers.

const NAMES: [&str; 35] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "UNUSED",
];

/// Distance between `RTMIN` (34) and `RTMAX` (64).
const REAL_TIME: u32 = 30;

pub(super) fn is_signal(text: &str) -> bool {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse::<u32>().is_ok_and(|number| number > 0);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.contains(&name) || is_real_time(name)
}

fn is_real_time(name: &str) -> bool {
    let offset = |rest: &str, sign: char| match rest.strip_prefix(sign) {
        Some(digits) => {
            digits.parse::<u32>().is_ok_and(|offset| offset <= REAL_TIME && !digits.starts_with('+'))
        }
        None => rest.is_empty(),
    };
    name.strip_prefix("RTMIN").is_some_and(|rest| offset(rest, '+'))
        || name.strip_prefix("RTMAX").is_some_and(|rest| offset(rest, '-'))
}

pub(super) fn nearest(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    crate::diagnostic::nearest(name, &NAMES).map(|name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known() {
        for text in ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-14", "RTMIN"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["", "0", "-1", "SIGNOPE", "RTMIN-1", "RTMAX+1", "RTMIN+31", "RTMIN+", "99999999999"] {
            assert!(!is_signal(text), "{text}");
        }
        assert_eq!(nearest("SIGTREM").as_deref(), Some("SIGTERM"));
    }
}
