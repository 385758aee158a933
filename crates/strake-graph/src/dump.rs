//! A graph as text, for tests and for people who debug a frontend.
//!
//! Everything that reaches the engine is shown, one fact per line, in the order of the graph. The format is no
//! interface: tests compare it as a whole, nothing parses it.

use std::fmt::{self, Write as _};

use strake_oci::{ContainerConfig, HealthConfig};

use crate::{
    CopySource, Graph, History, ModeChange, Mount, MountKind, Op, PlaceSource, Placement, Stage, Step, StepId,
};

/// The text of a graph.
pub fn dump(graph: &Graph) -> String {
    let mut out = String::new();
    // Writing to a `String` cannot fail.
    let _ = write_graph(&mut out, graph);
    out
}

fn write_graph(out: &mut String, graph: &Graph) -> fmt::Result {
    for (id, step) in graph.step_ids().zip(graph.steps()) {
        write_step(out, id, step)?;
    }
    for (index, stage) in graph.stages().iter().enumerate() {
        let target = graph.targets().iter().any(|target| target.index() == index);
        write_stage(out, stage, target)?;
    }
    Ok(())
}

fn write_step(out: &mut String, id: StepId, step: &Step) -> fmt::Result {
    let Step { op, platform, span, label, stage, position, no_cache, named } = step;
    let position = position.map_or(String::new(), |(number, count)| format!(" {number}/{count}"));
    let no_cache = if *no_cache { " no-cache" } else { "" };
    writeln!(out, "{id} [{stage}{position}] {platform} {}..{}{no_cache}", span.start, span.end)?;
    writeln!(out, "    label {label}")?;
    named.iter().try_for_each(|name| writeln!(out, "    named {name}"))?;
    match op {
        Op::Scratch => writeln!(out, "    scratch"),
        Op::Context(op) => writeln!(out, "    context {:?}", op.name),
        Op::Image(op) => {
            writeln!(out, "    image {} {} layers={}", op.reference, op.id, op.diff_ids.len())
        }
        Op::MakeDir(op) => writeln!(out, "    mkdir {:?} on {} user={:?}", op.path, op.base, op.user),
        Op::Run(op) => {
            writeln!(out, "    run on {} cwd={:?} user={:?}", op.base, op.cwd, op.user)?;
            op.args.iter().try_for_each(|arg| writeln!(out, "    arg {arg:?}"))?;
            write_pairs(out, "env", &op.env)?;
            write_pairs(out, "transient", &op.transient_env)?;
            op.mounts.iter().try_for_each(|mount| write_mount(out, mount))?;
            op.network.iter().try_for_each(|network| writeln!(out, "    network {network:?}"))
        }
        Op::Copy(op) => {
            let unpack = if op.unpack { " unpack" } else { "" };
            writeln!(out, "    copy on {} to {:?}{unpack}", op.base, op.destination)?;
            for source in &op.sources {
                match source {
                    CopySource::Path { from, pattern } => writeln!(out, "    from {from} {pattern:?}")?,
                    CopySource::Inline { name, content } => {
                        writeln!(out, "    inline {name:?} {:?}", String::from_utf8_lossy(content))?;
                    }
                }
            }
            op.chown.iter().try_for_each(|owner| writeln!(out, "    chown {owner:?}"))?;
            op.chmod.iter().try_for_each(|mode| write_mode(out, mode))
        }
        Op::Place(op) => {
            writeln!(out, "    place on {}", op.base)?;
            op.emptied.iter().try_for_each(|path| writeln!(out, "    emptied {path:?}"))?;
            op.vacated.iter().try_for_each(|path| writeln!(out, "    vacated {path:?}"))?;
            op.placements.iter().try_for_each(|placement| write_placement(out, placement))
        }
    }
}

fn write_placement(out: &mut String, placement: &Placement) -> fmt::Result {
    let Placement { from, to, owner, group } = placement;
    match from {
        PlaceSource::Step { from, path, filter } => write!(out, "    from {from} {path:?} {filter:?}")?,
        PlaceSource::Files { name, digest } => write!(out, "    files {name:?} {digest}")?,
    }
    writeln!(out, " to {to:?} owner={owner:?} group={group:?}")
}

fn write_pairs(out: &mut String, word: &str, pairs: &[(String, String)]) -> fmt::Result {
    pairs.iter().try_for_each(|(name, value)| writeln!(out, "    {word} {name}={value:?}"))
}

fn write_mount(out: &mut String, mount: &Mount) -> fmt::Result {
    write!(out, "    mount {:?} ", mount.target)?;
    match &mount.kind {
        MountKind::Bind { from, source, writable } => {
            writeln!(out, "bind {from} {source:?} writable={writable}")
        }
        MountKind::Cache { id, sharing, from, mode, uid, gid, read_only } => {
            write!(out, "cache {id:?} {sharing:?} mode={mode:o} owner={uid}:{gid} read-only={read_only}")?;
            if let Some((from, source)) = from {
                write!(out, " from {from} {source:?}")?;
            }
            writeln!(out)
        }
        MountKind::Tmpfs { size } => writeln!(out, "tmpfs size={size:?}"),
        MountKind::Secret { id, env, required, mode, uid, gid } => {
            writeln!(out, "secret {id:?} env={env:?} required={required} mode={mode:o} owner={uid}:{gid}")
        }
        MountKind::File { content, mode } => {
            writeln!(out, "file mode={mode:o} {:?}", String::from_utf8_lossy(content))
        }
        MountKind::Host { source, read_only } => {
            writeln!(out, "host {} read-only={read_only}", source.display())
        }
    }
}

fn write_mode(out: &mut String, mode: &ModeChange) -> fmt::Result {
    match mode {
        ModeChange::Octal(mode) => writeln!(out, "    chmod {mode:o}"),
        ModeChange::Symbolic(clauses) => clauses.iter().try_for_each(|clause| {
            write!(out, "    chmod {:04o}{}{:o}", clause.who, clause.operator, clause.permissions)?;
            let flags =
                [(clause.conditional_execute, " X"), (clause.set_id, " set-id"), (clause.sticky, " sticky")];
            flags.iter().filter(|(is_set, _)| *is_set).try_for_each(|(_, word)| write!(out, "{word}"))?;
            clause.copy_from.iter().try_for_each(|from| write!(out, " copy {from}"))?;
            writeln!(out)
        }),
    }
}

fn write_stage(out: &mut String, stage: &Stage, target: bool) -> fmt::Result {
    let target = if target { " target" } else { "" };
    writeln!(out, "stage {} = {} {}{target}", stage.name, stage.result, stage.platform)?;
    stage.author.iter().try_for_each(|author| writeln!(out, "    author {author:?}"))?;
    write_config(out, &stage.config)?;
    for entry in &stage.history {
        match entry {
            History::Inherited(entry) => {
                let made_by = entry.created_by.as_deref().unwrap_or_default();
                writeln!(out, "    inherited {made_by:?} empty={}", entry.empty_layer)?;
            }
            History::Instruction { created_by, step } => {
                let step = step.map_or(String::new(), |step| format!(" {step}"));
                writeln!(out, "    history{step} {created_by:?}")?;
            }
        }
    }
    Ok(())
}

fn write_config(out: &mut String, config: &ContainerConfig) -> fmt::Result {
    let ContainerConfig {
        user,
        exposed_ports,
        env,
        entrypoint,
        cmd,
        healthcheck,
        args_escaped,
        volumes,
        working_dir,
        on_build,
        labels,
        stop_signal,
        shell,
        other,
    } = config;
    for (word, text) in [("User", user), ("WorkingDir", working_dir), ("StopSignal", stop_signal)] {
        if !text.is_empty() {
            writeln!(out, "    {word} {text:?}")?;
        }
    }
    env.iter().try_for_each(|entry| writeln!(out, "    Env {entry:?}"))?;
    for (word, list) in [("Entrypoint", entrypoint), ("Cmd", cmd), ("Shell", shell)] {
        list.iter().try_for_each(|list| writeln!(out, "    {word} {list:?}"))?;
    }
    exposed_ports.keys().try_for_each(|port| writeln!(out, "    ExposedPort {port}"))?;
    volumes.keys().try_for_each(|volume| writeln!(out, "    Volume {volume:?}"))?;
    labels.iter().try_for_each(|(name, value)| writeln!(out, "    Label {name:?}={value:?}"))?;
    on_build.iter().try_for_each(|trigger| writeln!(out, "    OnBuild {trigger:?}"))?;
    healthcheck.iter().try_for_each(|health| write_health(out, health))?;
    if *args_escaped {
        writeln!(out, "    ArgsEscaped")?;
    }
    other.keys().try_for_each(|name| writeln!(out, "    other {name}"))
}

fn write_health(out: &mut String, health: &HealthConfig) -> fmt::Result {
    let HealthConfig { test, interval, timeout, start_period, start_interval, retries } = health;
    writeln!(
        out,
        "    Healthcheck {test:?} interval={interval} timeout={timeout} start-period={start_period} \
         start-interval={start_interval} retries={retries}"
    )
}
