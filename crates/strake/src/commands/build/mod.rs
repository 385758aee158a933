//! `build`: from the command line to an image, and from there to wherever it goes.

mod plan;
mod results;

use std::collections::BTreeMap;

use strake_engine::{BuildRequest, CachePlace, ContextSource, Environment, MountSharing, Secret, Sharing};
use strake_frontend::dockerfile::{self, Lowered};

use super::in_session;
use crate::args::{BuildArgs, CacheMounts, CacheToSpec, SecretSource, SecretSpec};
use crate::failure::{Failure, reason};
use crate::report;
use crate::session::Session;
use crate::settings::{Settings, compression, network};
use crate::source::{self, Inputs};
use crate::ui::UiOptions;
use results::Undelivered;

/// The largest secret, in bytes, as in BuildKit.
const SECRET_MAX: usize = 500 << 10;

/// `strake build`.
pub(super) fn build(args: &BuildArgs, mut settings: Settings) -> Result<u8, Failure> {
    let options = super::ui(&settings, "Building", args.progress, args.quiet);
    let options = UiOptions { explain: args.explain, ..options };
    results::check(args)?;
    if args.login.registry_password_stdin && (args.context == "-" || args.file.as_deref() == Some("-")) {
        return Err(Failure::input("the build and --registry-password-stdin both want standard input")
            .hint("set STRAKE_REGISTRY_PASSWORD"));
    }
    let pushed = results::pushed_names(args);
    let named: Vec<_> = pushed.iter().chain(&args.sharing.repo).collect();
    settings.log_in(&args.login, &named)?;
    settings.read_keys(&args.sharing.keys)?;
    in_session(settings, options, |session| build_in(session, args).map(|()| 0))
}

fn build_in(session: &Session, args: &BuildArgs) -> Result<(), Failure> {
    let inputs = source::open(&args.context, args.file.as_deref(), &session.store)?;
    for warning in &inputs.warnings {
        session.ui.event(&strake_engine::Event::Warning(warning.clone()));
    }
    let parsed = dockerfile::parse(&inputs.dockerfile);
    let text = inputs.source(parsed.text());
    let contexts = contexts(args, &inputs)?;
    let options =
        plan::options(session, args, contexts.keys().filter(|name| !name.is_empty()).cloned().collect());
    let lowered = plan::lower(session, args, &parsed, &options, &text)?;
    say_warnings(session, &lowered, &text);
    let epoch = args.timestamp.and_then(|seconds| i64::try_from(seconds).ok());
    let epoch = epoch.or(lowered.source_date_epoch).or(session.settings.source_date_epoch);
    let mut request = BuildRequest {
        graph: lowered.graph,
        contexts,
        files: BTreeMap::new(),
        secrets: secrets(session, &args.secrets)?,
        network: args.network.map_or(session.settings.network, network),
        hosts: args.hosts.clone(),
        ca_certificates: session.settings.ca_certificates(args.ca_certs.as_ref())?,
        jobs: args.jobs.unwrap_or(session.settings.jobs),
        explain: args.explain,
        place: inputs.place.clone(),
        epoch,
        sharing: sharing(session, args)?,
        wants_layers: results::wants_layers(args),
    };
    session.with(|env: &Environment<'_>| {
        let build = |request: &BuildRequest| {
            strake_engine::build(request, env).map_err(|error| report::build_failure(&text, error))
        };
        match results::deliver(session, env, args, &build(&request)?, epoch) {
            // What is only known from a registry may be gone there. Who wants the layers finds out, and builds them.
            Err(Undelivered::Lost(failure)) if !request.wants_layers => {
                let text = format!("{}; its layers are fetched, or built again", failure.message);
                session.ui.event(&strake_engine::Event::Warning(text));
                request.wants_layers = true;
                let built = build(&request)?;
                Ok(results::deliver(session, env, args, &built, epoch)?)
            }
            delivered => Ok(delivered?),
        }
    })
}

/// Where the steps are looked for and published.
fn sharing(session: &Session, args: &BuildArgs) -> Result<Sharing, Failure> {
    let given = &args.sharing;
    let repository = match &given.repo {
        Some(repository) => Some(repository.clone()),
        None => session.settings.repo.clone(),
    };
    let named = repository.iter().chain(&given.cache_repos).chain(&given.secondary_repos);
    let read = args.cache_from.iter().map(|spec| &spec.0);
    let written = args.cache_to.iter().filter_map(CacheToSpec::place);
    for place in read.chain(written) {
        if let CachePlace::Registry(reference) = place {
            session.permit(reference)?;
        }
    }
    named.chain(&given.final_repo).try_for_each(|repository| session.permit(repository))?;
    let mounts = match given.cache_mounts {
        CacheMounts::Local => None,
        CacheMounts::Repo(_) if repository.is_none() => {
            return Err(Failure::input("--cache-mounts repo: there is no repository to keep them in")
                .hint("name it with --repo REPO"));
        }
        CacheMounts::Repo(max_bytes) => Some(MountSharing { max_bytes }),
    };
    let asked = given.coordination.coordinate.as_ref();
    let locks = session.settings.coordinator(asked, repository.is_some())?;
    Ok(Sharing {
        repository,
        signing_key: session.settings.signing_key.clone(),
        trusted_keys: session.settings.trusted_keys.clone(),
        locks,
        mounts,
        caches: given.cache_repos.clone(),
        secondary: given.secondary_repos.clone(),
        from: args.cache_from.iter().map(|spec| spec.0.clone()).collect(),
        to: args.cache_to.iter().filter_map(CacheToSpec::target).collect(),
        inline: args.cache_to.contains(&CacheToSpec::Inline),
        compression: args.compression.map_or(session.settings.compression, compression),
    })
}

fn contexts(args: &BuildArgs, inputs: &Inputs) -> Result<BTreeMap<String, ContextSource>, Failure> {
    let mut contexts = BTreeMap::from([(String::new(), inputs.context.clone())]);
    for given in &args.build_contexts {
        let Some(value) = &given.value else {
            return Err(Failure::input(format!("--build-context {0}: want {0}=DIR", given.name)));
        };
        contexts.insert(given.name.clone(), source::further(&given.name, value)?);
    }
    Ok(contexts)
}

fn say_warnings(session: &Session, lowered: &Lowered, text: &report::Source) {
    if !lowered.warnings.is_empty() {
        session.ui.text(&report::diagnostics(text, &lowered.warnings));
    }
    // What comes from docker's settings or the environment is given to every build, whether it wants it or not.
    let implicit = |name: &&String| {
        *name == "SOURCE_DATE_EPOCH" || session.settings.proxy_args.contains_key(name.as_str())
    };
    let unused: Vec<_> = lowered.unused_build_args.iter().filter(|name| !implicit(name)).cloned().collect();
    if !unused.is_empty() {
        let names = unused.join(", ");
        session.ui.event(&strake_engine::Event::Warning(format!(
            "build arguments that no ARG of the needed stages declares: {names}"
        )));
    }
}

fn secrets(session: &Session, specs: &[SecretSpec]) -> Result<BTreeMap<String, Secret>, Failure> {
    specs.iter().map(|spec| Ok((spec.id.clone(), secret(session, spec)?))).collect()
}

fn secret(session: &Session, spec: &SecretSpec) -> Result<Secret, Failure> {
    use std::io::Read as _;
    use std::os::unix::ffi::OsStrExt;
    let from_env = |name: &str| session.settings.variable(name).map(|value| value.as_bytes().to_vec());
    let read = |path: &std::path::Path| {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        // No more than shows that it is too large: a device has no end.
        file.take(SECRET_MAX as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
    };
    let from_file = |path: &std::path::Path| {
        read(path).map_err(|error| {
            Failure::input(format!("secret {}: read {}: {}", spec.id, path.display(), reason(&error)))
        })
    };
    let bytes = match &spec.source {
        SecretSource::File(path) => from_file(path)?,
        SecretSource::Env(name) => from_env(name)
            .ok_or_else(|| Failure::input(format!("secret {}: the variable {name} is not set", spec.id)))?,
        SecretSource::Named => match from_env(&spec.id) {
            Some(value) => value,
            None => from_file(std::path::Path::new(&spec.id))?,
        },
    };
    if bytes.len() > SECRET_MAX {
        return Err(Failure::input(format!("secret {}: larger than {} KiB", spec.id, SECRET_MAX >> 10)));
    }
    Ok(Secret::new(&bytes))
}
