//! From the Dockerfile to the graph: what the frontend asks for is looked up, and it is asked again.

use std::collections::{BTreeMap, BTreeSet};

use strake_engine::Environment;
use strake_engine::image::{self, PullPolicy, ResolvedImage};
use strake_frontend::Diagnostic;
use strake_frontend::dockerfile::{
    self, Facts, ImageFact, ImageRequest, LowerOptions, Lowered, Lowering, Parsed,
};
use strake_oci::Platform;

use crate::args::BuildArgs;
use crate::failure::{Failure, Kind};
use crate::report::{self, Source};
use crate::session::Session;

/// More rounds of questions than any honest Dockerfile has: each can only come from what the round before answered.
const ROUNDS_MAX: usize = 64;

/// How many images are looked up at once.
const LOOKUPS: usize = 8;

/// What the command line says to the frontend.
pub(super) fn options(session: &Session, args: &BuildArgs, contexts: BTreeSet<String>) -> LowerOptions {
    let settings = &session.settings;
    let mut build_args: BTreeMap<String, String> = settings.proxy_args.clone();
    if let Some(epoch) = settings.source_date_epoch {
        build_args.insert("SOURCE_DATE_EPOCH".to_owned(), epoch.to_string());
    }
    for given in &args.build_args {
        let from_environment =
            || settings.variable(&given.name).map(|value| value.to_string_lossy().into_owned());
        match given.value.clone().or_else(from_environment) {
            Some(value) => build_args.insert(given.name.clone(), value),
            // Docker leaves out what is not set, so that the ARG's own default holds.
            None => build_args.remove(&given.name),
        };
    }
    LowerOptions {
        build_args,
        target: args.target.clone(),
        labels: args
            .labels
            .iter()
            .map(|label| (label.name.clone(), label.value.clone().unwrap_or_default()))
            .collect(),
        platform: args.platform.clone().unwrap_or_else(|| settings.platform.clone()),
        build_platform: Platform::host(),
        no_cache: args.no_cache,
        contexts,
    }
}

/// Asks the frontend until it has no more questions.
///
/// # Errors
/// When the Dockerfile is wrong, or an image it needs cannot be had.
pub(super) fn lower(
    session: &Session,
    args: &BuildArgs,
    parsed: &Parsed,
    options: &LowerOptions,
    text: &Source,
) -> Result<Lowered, Failure> {
    let policy = if args.pull { PullPolicy::Always } else { PullPolicy::Missing };
    let mut facts = Facts::default();
    for _ in 0..ROUNDS_MAX {
        match dockerfile::lower(parsed, options, &facts) {
            Ok(Lowering::Done(lowered)) => return Ok(*lowered),
            Ok(Lowering::Needs(requests)) => {
                for (request, resolved) in look_up(session, &requests, policy, text)? {
                    let fact = ImageFact { id: resolved.id, config: resolved.config };
                    facts.images.insert((request.reference, request.platform), fact);
                }
            }
            Err(found) => return Err(report::invalid(text, &found)),
        }
    }
    Err(Failure::input(format!("{}: images lead to ever more images", text.name)))
}

/// Looks up all images at once, and reports all that cannot be had.
fn look_up(
    session: &Session,
    requests: &[ImageRequest],
    policy: PullPolicy,
    text: &Source,
) -> Result<Vec<(ImageRequest, ResolvedImage)>, Failure> {
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for some in requests.chunks(LOOKUPS) {
        let results: Vec<_> = match some {
            // Nothing is started for the one image that most Dockerfiles have.
            [request] => vec![look_up_one(session, request, policy)],
            many => std::thread::scope(|scope| {
                let look = |request| scope.spawn(move || look_up_one(session, request, policy));
                let threads: Vec<_> = many.iter().map(look).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                    .collect()
            }),
        };
        for (request, result) in some.iter().zip(results) {
            match result {
                Ok(resolved) => found.push((request.clone(), resolved)),
                Err(failure) => failures.push((request, failure)),
            }
        }
    }
    if failures.is_empty() { Ok(found) } else { Err(unavailable(text, failures)) }
}

fn look_up_one(
    session: &Session,
    request: &ImageRequest,
    policy: PullPolicy,
) -> Result<ResolvedImage, Failure> {
    session.permit(&request.reference)?;
    let name = request.reference.familiar();
    let resolve = |env: &Environment<'_>| image::resolve(env, &request.reference, &request.platform, policy);
    session.with_image(&name, Some(&request.platform), resolve)
}

/// One failure for all images that cannot be had, each with the line that names it.
fn unavailable(text: &Source, failures: Vec<(&ImageRequest, Failure)>) -> Failure {
    let kind = failures
        .iter()
        .map(|(_, failure)| failure.kind)
        .find(|kind| *kind != Kind::Input)
        .unwrap_or(Kind::Input);
    let names: Vec<_> = failures.iter().map(|(request, _)| request.reference.familiar()).collect();
    let mut combined = Failure::new(kind, format!("cannot use {}", names.join(", ")));
    let diagnostics: Vec<_> = failures
        .into_iter()
        .map(|(request, failure)| {
            let diagnostic = Diagnostic::error("image", request.span, failure.message);
            match failure.hints.is_empty() {
                true => diagnostic,
                false => diagnostic.hint(failure.hints.join("; ")),
            }
        })
        .collect();
    combined.body = report::diagnostics(text, &diagnostics);
    combined
}
