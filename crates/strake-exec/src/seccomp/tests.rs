//! The filter is run by a small interpreter of our own and compared with the table, call by call.

use super::*;

/// Runs the filter on one call; returns its verdict and the number of instructions it took.
fn run(code: &[sock_filter], audit: u32, number: u32, argument: u32) -> (u32, usize) {
    let (mut at, mut accumulator, mut steps) = (0, 0, 0);
    loop {
        let i = code[at];
        let operation = u32::from(i.code);
        steps += 1;
        at += 1;
        let taken = |condition: bool| usize::from(if condition { i.jt } else { i.jf });
        match (operation & 7, operation & 0xF0) {
            (libc::BPF_LD, _) => {
                accumulator = match i.k {
                    OFFSET_NUMBER => number,
                    OFFSET_ARCHITECTURE => audit,
                    OFFSET_FIRST_ARGUMENT => argument,
                    other => panic!("load of {other}"),
                }
            }
            (libc::BPF_RET, _) => return (i.k, steps),
            (libc::BPF_JMP, libc::BPF_JA) => at += usize::try_from(i.k).unwrap(),
            (libc::BPF_JMP, libc::BPF_JEQ) => at += taken(accumulator == i.k),
            (libc::BPF_JMP, libc::BPF_JGE) => at += taken(accumulator >= i.k),
            (libc::BPF_JMP, libc::BPF_JSET) => at += taken(accumulator & i.k != 0),
            other => panic!("operation {other:?}"),
        }
    }
}

const DENY: u32 = RET_ERRNO | EPERM;
const UNKNOWN: u32 = RET_ERRNO | ENOSYS;

fn expected(rule: Rule, argument: u32) -> u32 {
    let allowed = match rule {
        Rule::Allow => true,
        Rule::Deny => false,
        Rule::Unknown => return UNKNOWN,
        Rule::Clone => argument & NAMESPACE_FLAGS == 0,
        Rule::Personality => PERSONALITIES.contains(&argument),
        Rule::Socket => argument != AF_VSOCK,
    };
    if allowed { RET_ALLOW } else { DENY }
}

#[test]
fn every_number_of_every_architecture_gets_its_rule() {
    for pair in [[X86_64, X86], [ARM64, ARM]] {
        let code = assemble(&pair);
        assert!(code.len() < 4096, "{} instructions", code.len());
        let mut worst = 0;
        for architecture in pair {
            for number in (0..1000).chain([0x000F_0001, 0x000F_0006, 0x4000_0000, 0x4000_0001, u32::MAX]) {
                let rule = CALLS
                    .iter()
                    .find(|(_, _, numbers)| u32::try_from(numbers[architecture.column]) == Ok(number))
                    .map_or(Rule::Unknown, |(_, rule, _)| *rule);
                for argument in [0, 0x11, 0x1000_0000, AF_VSOCK, 0x2_0008, 0x4_0000, 0x0120_0011, u32::MAX] {
                    let (verdict, steps) = run(&code, architecture.audit, number, argument);
                    assert_eq!(verdict, expected(rule, argument), "{architecture:?} {number} {argument:#x}");
                    worst = worst.max(steps);
                }
            }
        }
        assert!(worst < 50, "{worst} steps");
        assert_eq!(run(&code, 0x1234, 0, 0).0, UNKNOWN, "a foreign architecture");
    }
}

#[test]
fn numbers_agree_with_the_c_library() {
    let native = if cfg!(target_arch = "aarch64") { ARM64 } else { X86_64 };
    let number =
        |name: &str| CALLS.iter().find(|(n, ..)| *n == name).map(|(_, _, n)| i64::from(n[native.column]));
    for (name, expected) in [
        ("execve", libc::SYS_execve),
        ("clone", libc::SYS_clone),
        ("personality", libc::SYS_personality),
        ("mount", libc::SYS_mount),
        ("statx", libc::SYS_statx),
        ("close_range", libc::SYS_close_range),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("process_vm_readv", libc::SYS_process_vm_readv),
    ] {
        assert_eq!(number(name), Some(expected), "{name}");
    }
    assert_eq!(number("clone3"), None, "clone3 must be unknown, so that the C library uses clone");
}

#[test]
fn one_number_has_one_rule() {
    for column in 0..4 {
        let mut seen = std::collections::BTreeMap::new();
        for (name, rule, numbers) in CALLS {
            if numbers[column] >= 0 {
                let before = seen.insert(numbers[column], (name, rule));
                assert!(before.is_none_or(|(_, old)| old == rule), "{name} and {before:?}");
            }
        }
    }
}
