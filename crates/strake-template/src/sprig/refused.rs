//! Functions of Sprig whose answer is not the same twice. They are known by name so that the message can say why not.

use crate::error::Fault;
use crate::function::{Answer, Call, Function};

pub(super) const FUNCTIONS: &[Function] = &[
    refused("randAlphaNum"),
    refused("randAlpha"),
    refused("randAscii"),
    refused("randNumeric"),
    refused("randInt"),
    refused("randBytes"),
    refused("shuffle"),
    refused("uuidv4"),
    refused("bcrypt"),
    refused("htpasswd"),
    refused("derivePassword"),
    refused("genPrivateKey"),
    refused("buildCustomCert"),
    refused("genCA"),
    refused("genCAWithKey"),
    refused("genSelfSignedCert"),
    refused("genSelfSignedCertWithKey"),
    refused("genSignedCert"),
    refused("genSignedCertWithKey"),
    refused("encryptAES"),
    refused("decryptAES"),
    refused("getHostByName"),
];

const fn refused(name: &'static str) -> Function {
    Function::from(name, 0, refuse)
}

fn refuse(call: &Call<'_>) -> Answer {
    Err(Fault::new(format!(
        "{} is not provided: what is built must not depend on chance, keys or the network",
        call.name
    ))
    .hint("make the value outside and bring it in as a file, a secret or a variable"))
}
