//! The system call filter: Docker's default profile for its default capabilities, assembled here.
//!
//! For each architecture the calls are sorted into ranges of equal treatment and searched by halving, so a call
//! costs about eight comparisons, and the kernel, which runs the whole filter once for every number when it is
//! installed, is done quickly. Calls the filter does not know are answered with `ENOSYS`, never `EPERM`: the C
//! library then falls back to an older call, which it would not do otherwise. A 32-bit program on a 64-bit
//! kernel is judged by its own table.

mod table;

use libc::sock_filter;
use table::CALLS;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// It goes to the kernel.
    Allow,
    /// `EPERM`: a call that Docker's default capabilities do not cover.
    Deny,
    /// Allowed without new namespaces, which would be a way to capabilities.
    Clone,
    /// Allowed for the execution domains that Docker allows.
    Personality,
    /// Allowed except for `AF_VSOCK`, which has no namespace and would reach the hypervisor.
    Socket,
    /// `ENOSYS`: nothing is known of it.
    Unknown,
}

/// `CLONE_NEWNS|NEWCGROUP|NEWUTS|NEWIPC|NEWUSER|NEWPID|NEWNET`, the flags that make namespaces.
const NAMESPACE_FLAGS: u32 = 0x7E02_0000;
/// `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and the question for the current one.
const PERSONALITIES: [u32; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];
const AF_VSOCK: u32 = 40;

const RET_ALLOW: u32 = 0x7FFF_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Offsets in the kernel's `struct seccomp_data`; arguments are little-endian on all our architectures.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_FIRST_ARGUMENT: u32 = 16;

/// `AUDIT_ARCH_*` and the column of [`CALLS`].
#[derive(Debug, Clone, Copy)]
struct Architecture {
    audit: u32,
    column: usize,
}

const X86_64: Architecture = Architecture { audit: 0xC000_003E, column: 0 };
const X86: Architecture = Architecture { audit: 0x4000_0003, column: 1 };
const ARM64: Architecture = Architecture { audit: 0xC000_00B7, column: 2 };
const ARM: Architecture = Architecture { audit: 0x4000_0028, column: 3 };

/// The filter for the machine this program was built for, both word sizes.
pub(crate) fn filter() -> Vec<sock_filter> {
    if cfg!(target_arch = "aarch64") { assemble(&[ARM64, ARM]) } else { assemble(&[X86_64, X86]) }
}

fn assemble(architectures: &[Architecture]) -> Vec<sock_filter> {
    let mut code = vec![load(OFFSET_ARCHITECTURE)];
    for architecture in architectures {
        let mut section = vec![load(OFFSET_NUMBER)];
        search(&ranges(architecture.column), &mut section);
        code.push(jump(libc::BPF_JEQ, architecture.audit, 1, 0));
        code.push(jump_always(section.len()));
        code.append(&mut section);
    }
    code.push(answer(RET_ERRNO | ENOSYS));
    code
}

/// Ranges of equal treatment as (first number, rule), from 0 without gaps; the last one is endless.
fn ranges(column: usize) -> Vec<(u32, Rule)> {
    let mut calls: Vec<(u32, Rule)> = CALLS
        .iter()
        .filter_map(|(_, rule, numbers)| Some((u32::try_from(numbers[column]).ok()?, *rule)))
        .collect();
    calls.sort_by_key(|(number, _)| *number);
    calls.dedup_by_key(|(number, _)| *number);
    let mut ranges = vec![(0, Rule::Unknown)];
    let mut push = |start: u32, rule: Rule| match ranges.last_mut() {
        Some((_, last)) if *last == rule => {}
        Some(last) if last.0 == start => last.1 = rule,
        _ => ranges.push((start, rule)),
    };
    let mut next = 0;
    for (number, rule) in calls {
        if number > next {
            push(next, Rule::Unknown);
        }
        push(number, rule);
        next = number + 1;
    }
    push(next, Rule::Unknown);
    ranges
}

fn search(ranges: &[(u32, Rule)], code: &mut Vec<sock_filter>) {
    let [(_, only)] = ranges else {
        let middle = ranges.len() / 2;
        let (low, high) = ranges.split_at(middle);
        let mut low_code = Vec::new();
        search(low, &mut low_code);
        // Conditional jumps reach 255 instructions only, so the far one is an unconditional jump.
        code.push(jump(libc::BPF_JGE, high[0].0, 0, 1));
        code.push(jump_always(low_code.len()));
        code.append(&mut low_code);
        return search(high, code);
    };
    verdict(*only, code);
}

fn verdict(rule: Rule, code: &mut Vec<sock_filter>) {
    let deny = answer(RET_ERRNO | EPERM);
    let allow = answer(RET_ALLOW);
    match rule {
        Rule::Allow => code.push(allow),
        Rule::Deny => code.push(deny),
        Rule::Unknown => code.push(answer(RET_ERRNO | ENOSYS)),
        Rule::Clone => code.extend([
            load(OFFSET_FIRST_ARGUMENT),
            jump(libc::BPF_JSET, NAMESPACE_FLAGS, 0, 1),
            deny,
            allow,
        ]),
        Rule::Socket => {
            code.extend([load(OFFSET_FIRST_ARGUMENT), jump(libc::BPF_JEQ, AF_VSOCK, 0, 1), deny, allow]);
        }
        Rule::Personality => {
            code.push(load(OFFSET_FIRST_ARGUMENT));
            let mut beyond = u8::try_from(PERSONALITIES.len()).expect("five");
            for value in PERSONALITIES {
                code.push(jump(libc::BPF_JEQ, value, beyond, 0));
                beyond -= 1;
            }
            code.extend([deny, allow]);
        }
    }
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).expect("BPF operation codes have 16 bits"), jt, jf, k }
}

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn jump(condition: u32, value: u32, if_true: u8, if_false: u8) -> sock_filter {
    instruction(libc::BPF_JMP | condition | libc::BPF_K, if_true, if_false, value)
}

fn jump_always(distance: usize) -> sock_filter {
    let distance = u32::try_from(distance).expect("a filter has at most 4096 instructions");
    instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, distance)
}

fn answer(value: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value)
}

#[cfg(test)]
mod tests;
