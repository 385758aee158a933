//! `run`: one command in a container of an image. What it writes is dropped.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};

use strake_engine::Environment;
use strake_engine::image::{self, ImageError, PullPolicy};
use strake_exec::{Container, ExecError, Io, Mount, MountKind, Network, Process, Rootfs, Stdin, Stream};
use strake_oci::{ContainerConfig, ImageConfig, ImageId, Reference};
use strake_store::{ActiveSnapshot, LayerId, SnapshotMount};

use super::{containers, in_session, ui};
use crate::args::{RunArgs, Volume};
use crate::failure::Failure;
use crate::project::image_config;
use crate::report;
use crate::session::Session;
use crate::settings::{Settings, network};

/// What docker gives to images that say nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `strake run`.
pub(super) fn run(args: &RunArgs, mut settings: Settings) -> Result<u8, Failure> {
    if args.interactive && args.login.registry_password_stdin {
        return Err(Failure::input("-i and --registry-password-stdin both want standard input")
            .hint("pull the image first, or set STRAKE_REGISTRY_PASSWORD"));
    }
    // What is no name is an id, which no registry is asked for.
    let name: Option<strake_oci::Reference> =
        args.image_and_command.first().and_then(|name| name.parse().ok());
    settings.log_in(&args.login, &name.iter().collect::<Vec<_>>())?;
    let options = ui(&settings, "Fetching", None, false);
    in_session(settings, options, |session| run_in(session, args))
}

/// The same with what is open already.
///
/// # Errors
/// When there is no such image, or the container cannot be started.
pub(super) fn run_in(session: &Session, args: &RunArgs) -> Result<u8, Failure> {
    let Some((name, command)) = args.image_and_command.split_first() else {
        return Err(Failure::input("no image is named"));
    };
    let (id, config) = find(session, args, name)?;
    let running = containers::announce(session, id)?;
    let layers = session.with(|env| image::materialise(env, id))?;
    let active = session.store.snapshots().prepare(&layers)?;
    let hostname = args.hostname.as_ref().or(args.name.as_ref());
    let mut container = Container {
        rootfs: rootfs(&active),
        process: process(session, args, &config.config, command)?,
        mounts: args.volumes.iter().map(bind).collect::<Result<_, _>>()?,
        network: container_network(session, args.network.map_or(session.settings.network, network)),
        hostname: hostname.cloned().unwrap_or_else(|| active.id().as_str().chars().take(12).collect()),
        hosts: Vec::new(),
        read_only: false,
    };
    if let Some(pem) = session.settings.ca_certificates(args.ca_certs.as_ref())? {
        trust(session, &layers, &pem, &mut container)?;
    }
    // From here on the terminal belongs to the container.
    session.ui.finish();
    let stdin = match (args.interactive, args.tty) {
        (true, true) => Stdin::Terminal,
        (true, false) => Stdin::Inherit,
        (false, _) => Stdin::Null,
    };
    let status = attach(session, &container, stdin);
    drop((active, running));
    match status {
        Ok(status) => Ok(u8::try_from(status.code()).unwrap_or(u8::MAX)),
        Err(error) => match error.command_status() {
            Some(code) => {
                let failure = report::exec_failure(&error);
                // `dimg run` asks for it where nobody named a command.
                let failure = match (code, command) {
                    (127, [only]) if only == "/bin/bash" => {
                        failure.hint("name a command that the image has, as in strake dimg run DIMG -- sh")
                    }
                    _ => failure,
                };
                session.ui.failure(&failure);
                Ok(code)
            }
            None => Err(report::exec_failure(&error)),
        },
    }
}

/// Finds the image locally, by name or id, then in its registry.
fn find(session: &Session, args: &RunArgs, name: &str) -> Result<(ImageId, ImageConfig), Failure> {
    if args.platform.is_none() {
        match session.with(|env| image::find(env, name)) {
            Ok(found) => return Ok((found.id, image_config(&session.store, found.id)?)),
            Err(ImageError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let reference: Reference =
        name.parse().map_err(|error| Failure::input(format!("image {name}: {error}")))?;
    session.permit(&reference)?;
    let platform = args.platform.as_ref().unwrap_or(&session.settings.platform);
    let resolve = |env: &Environment<'_>| image::resolve(env, &reference, platform, PullPolicy::Missing);
    let resolved = session.with_image(name, Some(platform), resolve)?;
    Ok((resolved.id, resolved.config))
}

fn process(
    session: &Session,
    args: &RunArgs,
    config: &ContainerConfig,
    command: &[String],
) -> Result<Process, Failure> {
    let argv = argv(config, args.entrypoint.as_deref(), command);
    if argv.is_empty() {
        return Err(
            Failure::input("the image has no command of its own").hint("name one: strake run IMAGE COMMAND")
        );
    }
    let mut env = environment(config);
    if args.tty {
        set(&mut env, "TERM", OsStr::new("xterm"));
    }
    for given in &args.env {
        let value = match &given.value {
            Some(value) => Some(OsStr::new(value)),
            None => session.settings.variable(&given.name),
        };
        match value {
            Some(value) => set(&mut env, &given.name, value),
            None => env.retain(|(name, _)| *name != given.name),
        }
    }
    let cwd = args.workdir.clone().unwrap_or_else(|| config.working_dir.clone());
    let cwd = if cwd.is_empty() { "/".to_owned() } else { cwd };
    if !cwd.starts_with('/') {
        return Err(Failure::input(format!("working directory {cwd}: must be absolute")));
    }
    Ok(Process {
        args: argv,
        env,
        cwd,
        user: args.user.clone().unwrap_or_else(|| config.user.clone()),
        set_home: true,
        terminal: args.tty,
    })
}

/// Docker's rule: a new entrypoint drops the image's command as well, an empty one stands for none.
fn argv(config: &ContainerConfig, entrypoint: Option<&str>, command: &[String]) -> Vec<String> {
    let own = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
    let (mut argv, default) = match entrypoint {
        Some("") => (Vec::new(), Vec::new()),
        Some(program) => (vec![program.to_owned()], Vec::new()),
        None => (own(&config.entrypoint), own(&config.cmd)),
    };
    argv.extend(if command.is_empty() { default } else { command.to_vec() });
    argv
}

fn environment(config: &ContainerConfig) -> Vec<(String, OsString)> {
    let split = |line: &String| {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        (name.to_owned(), value.into())
    };
    let mut env: Vec<_> = config.env.iter().map(split).collect();
    if !env.iter().any(|(name, _)| name == "PATH") {
        env.insert(0, ("PATH".to_owned(), PATH.into()));
    }
    env
}

fn set(env: &mut Vec<(String, OsString)>, name: &str, value: &OsStr) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    }
}

fn bind(volume: &Volume) -> Result<Mount, Failure> {
    let source = volume.source.canonicalize().map_err(|error| {
        Failure::file("volume", &volume.source, &error)
            .hint("a directory must exist before it can be a volume")
    })?;
    Ok(Mount { target: volume.target.clone(), kind: MountKind::Bind { source }, read_only: volume.read_only })
}

/// Makes the clients in a container on `layers` trust the certificates in `pem` as well.
///
/// # Errors
/// When the layers cannot be read.
pub(crate) fn trust(
    session: &Session,
    layers: &[LayerId],
    pem: &[u8],
    container: &mut Container,
) -> Result<(), Failure> {
    let trust = strake_engine::trust::prepare(&session.store.open_view(layers)?, pem);
    container.mounts.extend(trust.mount);
    for (name, value) in trust.env {
        if !container.process.env.iter().any(|(known, _)| *known == name) {
            container.process.env.push((name, value.into()));
        }
    }
    Ok(())
}

/// The root file system of a container that works on a snapshot.
pub(crate) fn rootfs(active: &ActiveSnapshot) -> Rootfs {
    match active.mount() {
        SnapshotMount::Overlay { lowers, upper, work, user_xattr } => {
            Rootfs::Overlay { lowers, upper, work, user_xattr, volatile: true }
        }
        SnapshotMount::Directory(path) => Rootfs::Directory(path),
    }
}

/// The network of a container; where it can have none of its own, that is said.
pub(crate) fn container_network(session: &Session, wanted: strake_graph::Network) -> Network {
    match wanted {
        strake_graph::Network::None => Network::None,
        strake_graph::Network::Host => Network::Host,
        strake_graph::Network::Default => match session.private_network() {
            Ok(()) => Network::Private,
            Err(reason) => {
                report::warn(&format!("the container uses the host's network: {reason}"));
                Network::Host
            }
        },
    }
}

/// Runs a container whose output is this program's.
pub(crate) fn attach(
    session: &Session,
    container: &Container,
    stdin: Stdin,
) -> Result<strake_exec::ExitStatus, ExecError> {
    let mut forward = |stream: Stream, bytes: &[u8]| {
        let sent = match stream {
            Stream::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            }
            Stream::Stderr => io::stderr().lock().write_all(bytes),
        };
        // Whoever read the output has gone; there is nothing left to run for.
        if sent.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            session.cancellation.cancel();
        }
    };
    let io = Io { output: &mut forward, stdin };
    session.executor().run(container, io, session.cancellation.containers())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entrypoint_and_command_follow_docker() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let config = ContainerConfig {
            entrypoint: Some(words(&["/entry", "-a"])),
            cmd: Some(words(&["serve"])),
            ..ContainerConfig::default()
        };
        let check = |entrypoint, command: &[&str], expect: &[&str]| {
            assert_eq!(argv(&config, entrypoint, &words(command)), words(expect));
        };
        check(None, &[], &["/entry", "-a", "serve"]);
        check(None, &["x"], &["/entry", "-a", "x"]);
        check(Some("/sh"), &[], &["/sh"]);
        check(Some("/sh"), &["-c", "x"], &["/sh", "-c", "x"]);
        check(Some(""), &["x"], &["x"]);
        check(Some(""), &[], &[]);
    }

    #[test]
    fn environments_have_a_path() {
        let config = ContainerConfig { env: vec!["A=1=2".into(), "B".into()], ..ContainerConfig::default() };
        let env = environment(&config);
        assert_eq!(env[0].0, "PATH");
        assert_eq!(env[1..], [("A".into(), "1=2".into()), ("B".into(), OsString::new())]);
    }
}
