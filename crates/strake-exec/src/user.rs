//! From Docker's `USER` text to numbers, by the image's own `/etc/passwd` and `/etc/group`.
//!
//! A text of digits is always a number, even if the image has a user of that *name*: otherwise an image could
//! turn `USER 1000` into root with a line `1000:x:0:0`. Lines that are malformed are skipped, as the C library
//! does; the files are the image's, so nothing in them is trusted to be short, complete or text.

use serde::{Deserialize, Serialize};

/// Largest user or group id, the bound that Docker documents.
const MAX_ID: u32 = i32::MAX as u32;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, in the order of the group file; the primary group is not repeated.
    pub groups: Vec<u32>,
    /// Home directory of the passwd line, if there is one.
    pub home: Option<String>,
}

/// Why a user could not be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum UserError {
    /// The name has no line in `/etc/passwd`.
    #[error("user {0:?}: no such user in the image's /etc/passwd")]
    NoSuchUser(String),
    /// The name has no line in `/etc/group`.
    #[error("group {0:?}: no such group in the image's /etc/group")]
    NoSuchGroup(String),
    /// The number is beyond what a user or group id may be.
    #[error("id {0}: out of range 0 to 2147483647")]
    OutOfRange(String),
    /// The text is not of the form `user[:group]`.
    #[error("user {0:?}: not of the form USER[:GROUP]")]
    Malformed(String),
    /// A file is no regular file or too large to be a user database.
    #[error("{path} of the image: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why it is not read.
        why: String,
    },
}

/// Resolves `spec` by the contents of a passwd and a group file (empty when the image has none).
///
/// Without a group in `spec`, the primary group is that of the passwd line (0 without a line) and the
/// supplementary groups are those that list the user; with one, it is the only group.
///
/// # Errors
/// [`UserError`], except [`UserError::Unreadable`], which only the reading of the files can notice.
pub fn lookup(spec: &str, passwd: &[u8], group: &[u8]) -> Result<Ids, UserError> {
    let (user, group_name) = split(spec)?;
    let (uid, line) = match number(user)? {
        Some(uid) => (uid, users(passwd).find(|line| line.uid == uid)),
        None => {
            let line = users(passwd)
                .find(|line| line.name == user.as_bytes())
                .ok_or_else(|| UserError::NoSuchUser(user.to_owned()))?;
            (line.uid, Some(line))
        }
    };
    let home =
        line.as_ref().and_then(|line| String::from_utf8(line.home.to_vec()).ok()).filter(|h| !h.is_empty());
    let (gid, supplementary) = match group_name {
        Some(name) => (group_id(name, group)?, Vec::new()),
        None => match &line {
            Some(line) => (line.gid, memberships(line.name, line.gid, group)),
            None => (0, Vec::new()),
        },
    };
    Ok(Ids { uid, gid, groups: supplementary, home })
}

fn split(spec: &str) -> Result<(&str, Option<&str>), UserError> {
    let malformed = || UserError::Malformed(spec.to_owned());
    let (user, group) = match spec.split_once(':') {
        None => (spec, None),
        Some((_, group)) if group.contains(':') => return Err(malformed()),
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
    };
    if spec.bytes().any(|byte| byte == b'\n' || byte == 0) {
        return Err(malformed());
    }
    Ok((if user.is_empty() { "0" } else { user }, group))
}

/// The number that a text of digits stands for; `None` for a name.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(UserError::OutOfRange(text.to_owned())),
    }
}

fn group_id(name: &str, group: &[u8]) -> Result<u32, UserError> {
    if let Some(gid) = number(name)? {
        return Ok(gid);
    }
    groups(group)
        .find(|line| line.name == name.as_bytes())
        .map(|line| line.gid)
        .ok_or_else(|| UserError::NoSuchGroup(name.to_owned()))
}

fn memberships(user: &[u8], primary: u32, group: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    for line in groups(group) {
        let member = line.members.split(|&byte| byte == b',').any(|name| name == user);
        if member && line.gid != primary && !found.contains(&line.gid) {
            found.push(line.gid);
        }
    }
    // The kernel takes 65,536 at most; a file with more is not one that anybody wrote.
    found.truncate(65_535);
    found
}

struct UserLine<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

struct GroupLine<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

/// `name:password:uid:gid:comment:home:shell`.
fn users(passwd: &[u8]) -> impl Iterator<Item = UserLine<'_>> {
    passwd.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = id_field(fields.nth(1)?)?;
        let gid = id_field(fields.next()?)?;
        Some(UserLine { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

/// `name:password:gid:member,member`.
fn groups(group: &[u8]) -> impl Iterator<Item = GroupLine<'_>> {
    group.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = id_field(fields.nth(1)?)?;
        Some(GroupLine { name, gid, members: fields.next().unwrap_or_default() })
    })
}

fn id_field(field: &[u8]) -> Option<u32> {
    number(std::str::from_utf8(field).ok()?).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        bad line\n:x:5:5::/:/bin/sh\nhuge:x:4294967296:0::/:/bin/sh\n\
        app:x:1000:1001:App:/home/app:/bin/sh\n\
        1234:x:0:0:trap:/:/bin/sh\nshort:x:7:8\n";
    const GROUP: &[u8] =
        b"root:x:0:\naudio:x:29:app,root\nstaff:x:50:someone\napp:x:1001:app\nvideo:x:44:app\n\
        again:x:29:app\n777:x:0:\n";

    fn ids(uid: u32, gid: u32, groups: &[u32], home: Option<&str>) -> Result<Ids, UserError> {
        Ok(Ids { uid, gid, groups: groups.to_vec(), home: home.map(str::to_owned) })
    }

    #[test]
    fn names_and_numbers() {
        let cases = [
            ("", ids(0, 0, &[29], Some("/root"))),
            ("root", ids(0, 0, &[29], Some("/root"))),
            ("app", ids(1000, 1001, &[29, 44], Some("/home/app"))),
            ("1000", ids(1000, 1001, &[29, 44], Some("/home/app"))),
            ("app:staff", ids(1000, 50, &[], Some("/home/app"))),
            ("app:0", ids(1000, 0, &[], Some("/home/app"))),
            ("app:", ids(1000, 1001, &[29, 44], Some("/home/app"))),
            (":50", ids(0, 50, &[], Some("/root"))),
            ("5000", ids(5000, 0, &[], None)),
            ("5000:6000", ids(5000, 6000, &[], None)),
            ("short", ids(7, 8, &[], None)),
            ("2147483647", ids(2_147_483_647, 0, &[], None)),
        ];
        for (spec, expected) in cases {
            assert_eq!(lookup(spec, PASSWD, GROUP), expected, "{spec}");
        }
    }

    #[test]
    fn digits_are_never_a_name() {
        assert_eq!(lookup("1234", PASSWD, GROUP), ids(1234, 0, &[], None));
        assert_eq!(lookup("app:777", PASSWD, GROUP), ids(1000, 777, &[], Some("/home/app")));
    }

    #[test]
    fn errors_say_which() {
        let out_of_range = |text: &str| Err(UserError::OutOfRange(text.into()));
        assert_eq!(lookup("4294967296", PASSWD, GROUP), out_of_range("4294967296"));
        assert_eq!(lookup("4294967295", PASSWD, GROUP), out_of_range("4294967295"));
        assert_eq!(lookup("2147483648", PASSWD, GROUP), out_of_range("2147483648"));
        assert_eq!(lookup("0:99999999999999999999", PASSWD, GROUP), out_of_range("99999999999999999999"));
        for name in ["nobody", "-1", "+0", "0x0", " 0", "root ", "huge"] {
            assert_eq!(lookup(name, PASSWD, GROUP), Err(UserError::NoSuchUser(name.into())));
        }
        assert_eq!(lookup("root:none", PASSWD, GROUP), Err(UserError::NoSuchGroup("none".into())));
        for text in ["a:b:c", "root\n", "root\0"] {
            assert_eq!(lookup(text, PASSWD, GROUP), Err(UserError::Malformed(text.into())));
        }
    }

    #[test]
    fn missing_files_leave_numbers_usable() {
        assert_eq!(lookup("", b"", b""), ids(0, 0, &[], None));
        assert_eq!(lookup("42:43", b"", b""), ids(42, 43, &[], None));
        assert_eq!(lookup("root", b"", b""), Err(UserError::NoSuchUser("root".into())));
    }

    #[test]
    fn an_endless_line_is_only_a_bad_line() {
        let mut passwd = vec![b'a'; 8 << 20];
        passwd.extend_from_slice(b"\napp:x:9:9::/:/bin/sh\n");
        assert_eq!(lookup("app", &passwd, b"").map(|ids| ids.uid), Ok(9));
    }

    #[test]
    fn never_panics_and_never_invents_a_user() {
        // A small generator keeps the cases the same on every machine.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).expect("31 bits") % bound
        };
        let alphabet = b"a0:1,\n\xff-";
        for _ in 0..20_000 {
            let mut text =
                |n: usize| -> Vec<u8> { (0..next(n)).map(|_| alphabet[next(alphabet.len())]).collect() };
            let (spec, passwd, group) = (text(6), text(60), text(60));
            let Ok(spec) = String::from_utf8(spec) else { continue };
            if let Ok(found) = lookup(&spec, &passwd, &group) {
                assert!(found.uid <= MAX_ID && found.gid <= MAX_ID);
            }
        }
    }
}
