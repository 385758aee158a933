//! Finding and starting the program, and saying precisely why it cannot be started.

use std::ffi::{CString, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{Access, Mode, OFlags};

use crate::error::{Errno, ExecError};
use crate::process::Process;
use crate::sys;

/// Docker's default search path, for an environment without one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the program. Returns only the reason why that failed.
pub(super) fn execute(process: &Process, environment: Vec<(String, OsString)>) -> ExecError {
    match try_execute(process, environment) {
        Ok(error) | Err(error) => error,
    }
}

/// Becomes a program of the host, without an environment. Returns only the reason why that failed.
pub(crate) fn replace(program: &Path, args: &[&str]) -> ExecError {
    let text =
        |text: &str| CString::new(text).map_err(|_| ExecError::invalid("argument", "contains a NUL byte"));
    let program = program.to_string_lossy();
    let path = format!("PATH={DEFAULT_PATH}");
    let prepared = (|| {
        let args: Result<Vec<CString>, ExecError> =
            [&*program].iter().chain(args).map(|arg| text(arg)).collect();
        Ok((text(&program)?, args?, text(&path)?))
    })();
    match prepared {
        Ok((name, args, path)) => explain(&program, sys::execve(&name, &args, &[path]), None),
        Err(error) => error,
    }
}

fn try_execute(process: &Process, environment: Vec<(String, OsString)>) -> Result<ExecError, ExecError> {
    let bytes = |what: &str, bytes: Vec<u8>| {
        CString::new(bytes).map_err(|_| ExecError::invalid(what, "contains a NUL byte"))
    };
    let text = |what: &str, text: String| bytes(what, text.into_bytes());
    let program = process.args.first().ok_or_else(|| ExecError::invalid("command", "is empty"))?;
    let path = environment.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or(DEFAULT_PATH.into(), |(_, path)| path.to_string_lossy()).into_owned();
    let args: Vec<CString> =
        process.args.iter().map(|arg| text("argument", arg.clone())).collect::<Result<_, _>>()?;
    let env: Vec<CString> = environment
        .into_iter()
        .map(|(name, value)| bytes("environment", [name.as_bytes(), b"=", &value.into_vec()].concat()))
        .collect::<Result<_, _>>()?;
    if program.contains('/') {
        let errno = sys::execve(&text("command", program.clone())?, &args, &env);
        return Ok(explain(program, errno, None));
    }
    if program.is_empty() {
        return Ok(ExecError::NotFound { program: program.clone(), path: None });
    }
    let mut refused = None;
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = format!("{directory}/{program}");
        let errno = sys::execve(&text("command", candidate.clone())?, &args, &env);
        match errno.0 {
            libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG | libc::ELOOP if !exists(&candidate) => {}
            libc::EACCES => refused = refused.or(Some((candidate, errno))),
            _ => return Ok(explain(&candidate, errno, None)),
        }
    }
    Ok(match refused {
        Some((candidate, errno)) => explain(&candidate, errno, None),
        None => explain(program, Errno(libc::ENOENT), Some(path)),
    })
}

fn exists(path: &str) -> bool {
    rustix::fs::access(path, Access::EXISTS).is_ok()
}

fn explain(program: &str, errno: Errno, path: Option<String>) -> ExecError {
    let program_text = program.to_owned();
    match errno.0 {
        libc::ENOENT if path.is_none() && exists(program) => {
            ExecError::NoInterpreter { program: program_text, interpreter: interpreter(program) }
        }
        libc::ENOENT | libc::ENOTDIR => ExecError::NotFound { program: program_text, path },
        libc::ENOEXEC => ExecError::Format { program: program_text, hint: format_hint(program) },
        libc::E2BIG => ExecError::setup("start the program: arguments and environment are too long", errno),
        libc::EACCES | libc::EPERM => ExecError::NotExecutable { program: program_text, errno },
        _ => ExecError::setup(format!("start {program}"), errno),
    }
}

/// The first bytes of a file, if it can be read.
fn head(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) {
        let _ = std::fs::File::from(file).take(4096).read_to_end(&mut bytes);
    }
    bytes
}

fn interpreter(program: &str) -> String {
    let head = head(program);
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        return line.split_whitespace().next().unwrap_or("(none)").to_owned();
    }
    elf_interpreter(&head).unwrap_or_else(|| "(the dynamic linker)".to_owned())
}

/// The dynamic linker that a 64-bit little-endian ELF file names in its head.
fn elf_interpreter(head: &[u8]) -> Option<String> {
    const PT_INTERP: u64 = 3;
    let number = |offset: usize, length: usize| -> Option<u64> {
        let bytes = head.get(offset..offset.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(number(32, 8)?).ok()?;
    for entry in 0..usize::try_from(number(56, 2)?).ok()? {
        let at = table.checked_add(entry.checked_mul(56)?)?;
        if number(at, 4)? == PT_INTERP {
            let start = usize::try_from(number(at.checked_add(8)?, 8)?).ok()?;
            let name = head.get(start..)?.split(|&byte| byte == 0).next()?;
            return Some(String::from_utf8_lossy(name).into_owned());
        }
    }
    None
}

fn format_hint(program: &str) -> String {
    let head = head(program);
    match (head.get(..4), head.get(18..20)) {
        (Some(b"\x7fELF"), Some(machine)) => {
            let name = match u16::from_le_bytes([machine[0], machine[1]]) {
                3 => "x86".to_owned(),
                40 => "arm".to_owned(),
                62 => "x86-64".to_owned(),
                183 => "arm64".to_owned(),
                21 => "ppc64le".to_owned(),
                22 => "s390x".to_owned(),
                243 => "riscv".to_owned(),
                other => format!("machine {other}"),
            };
            format!(
                ": it is built for {name}; is the image for another platform, and qemu-user-static not installed?"
            )
        }
        (Some(start), _) if start.starts_with(b"#!") => String::new(),
        (None, _) => ": the file is empty or unreadable".to_owned(),
        _ => ": neither a program nor a script with a #! line".to_owned(),
    }
}
