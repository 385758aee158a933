//! Arguments that exist outside of stages: platforms, proxies, and `ARG` in front of the first `FROM`.

use std::collections::BTreeMap;

use strake_oci::Platform;

use crate::dockerfile::LowerOptions;
use crate::dockerfile::expand::Env;

/// Arguments that reach `RUN` without being declared, and neither the image nor the signature.
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Arguments that say something about the build itself and are therefore no variables of `RUN`.
const NOT_IN_ENVIRONMENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What every `FROM` may use and every stage may declare.
pub(super) fn platform_args(options: &LowerOptions, target: &str) -> Env {
    let mut env = Env::default();
    let build = platform_values(&options.build_platform);
    let wanted = platform_values(&options.platform);
    let names = ["PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT"];
    for (prefix, values) in [("BUILD", build), ("TARGET", wanted)] {
        for (name, value) in names.into_iter().zip(values) {
            env.set(&format!("{prefix}{name}"), &value);
        }
    }
    env.set("TARGETSTAGE", target);
    let overridden: Vec<_> = options.build_args.iter().filter(|(name, _)| env.get(name).is_some()).collect();
    for (name, value) in overridden {
        env.set(name, value);
    }
    env
}

fn platform_values(platform: &Platform) -> [String; 5] {
    let optional = |value: &Option<String>| value.clone().unwrap_or_default();
    [
        platform.to_string(),
        platform.os.clone(),
        optional(&platform.os_version),
        platform.architecture.clone(),
        optional(&platform.variant),
    ]
}

/// The proxy settings among the build arguments, in both spellings that programs look for.
pub(super) fn proxy_environment(build_args: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut environment = Vec::new();
    for name in PROXIES {
        let mut given = build_args.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        // Of two spellings the lower-case one, which sorts last, decides.
        if let Some((_, value)) = given.next_back() {
            environment.push((name.to_owned(), value.clone()));
            environment.push((name.to_ascii_lowercase(), value.clone()));
        }
    }
    environment
}

/// Whether a build argument has a meaning without any `ARG`.
pub(super) fn is_predefined(name: &str, platform_args: &Env) -> bool {
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
        || platform_args.get(name).is_some()
        || name == "SOURCE_DATE_EPOCH"
        || name.starts_with("BUILDKIT_")
}

/// Whether a declared argument becomes a variable of `RUN`.
pub(super) fn is_environment(name: &str) -> bool {
    !NOT_IN_ENVIRONMENT.contains(&name)
}
