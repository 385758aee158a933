//! Names of objects, one type per kind, so that a tree is never taken for the commit it belongs to.

use std::fmt;

use gix_hash::ObjectId;

use crate::error::{GitError, quoted};

macro_rules! id {
    ($name:ident, $what:literal) => {
        #[doc = concat!("The id of a ", $what, "; displayed as 40 (SHA-1) or 64 (SHA-256) hexadecimal digits.")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) ObjectId);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

id!(CommitId, "commit");
id!(TreeId, "tree");
id!(BlobId, "blob: the content of a file, or the target of a symbolic link");

impl CommitId {
    /// Reads all digits of an id, as a label or a stage file has them.
    ///
    /// # Errors
    ///
    /// [`GitError::UnknownRevision`] for anything but 40 or 64 hexadecimal digits: an abbreviation that is unique today
    /// need not be tomorrow.
    pub fn from_hex(text: &str) -> Result<Self, GitError> {
        ObjectId::from_hex(text.as_bytes()).map(Self).map_err(|_| GitError::UnknownRevision {
            name: format!("the commit {}", quoted(text.as_bytes())),
            place: "any repository".to_owned(),
            reason: "write all 40 hexadecimal digits of its id".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::CommitId;

    #[test]
    fn a_commit_is_named_by_all_its_digits() {
        let digits = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(CommitId::from_hex(digits).unwrap().to_string(), digits);
        for wrong in
            ["", "0123456", &format!("{digits}0"), &digits.replace('a', "g"), "HEAD", &format!(" {digits}")]
        {
            assert!(CommitId::from_hex(wrong).is_err(), "{wrong}");
        }
    }
}
