//! The functions of Sprig, as far as they answer the same twice.

mod cast;
mod checksums;
pub(crate) mod dates;
mod decimal;
mod defaults;
mod dicts;
mod encoding;
mod environment;
mod json;
mod lists;
mod math;
mod paths;
mod reflect;
mod refused;
mod regexes;
mod semver;
mod strings;
mod url;
mod words;

use crate::function::Function;

pub(crate) const TABLES: &[&[Function]] = &[
    strings::FUNCTIONS,
    words::FUNCTIONS,
    lists::FUNCTIONS,
    dicts::FUNCTIONS,
    math::FUNCTIONS,
    defaults::FUNCTIONS,
    json::FUNCTIONS,
    encoding::FUNCTIONS,
    checksums::FUNCTIONS,
    paths::FUNCTIONS,
    dates::FUNCTIONS,
    reflect::FUNCTIONS,
    regexes::FUNCTIONS,
    semver::FUNCTIONS,
    url::FUNCTIONS,
    environment::FUNCTIONS,
    refused::FUNCTIONS,
];
