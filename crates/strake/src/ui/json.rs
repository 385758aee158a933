//! Progress as JSON, one object per line. The format is described in `docs/json-events.md` and carries a version.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use strake_engine::{Event, Explanation, PlannedStep, Stream};
use strake_graph::StepId;

use super::model;
use super::text::Characters;
use crate::failure::Failure;

/// The version of the format; it changes when a member changes its meaning or goes away.
const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    v: u32,
    t: f64,
    event: &'a str,
    #[serde(flatten)]
    members: Value,
}

/// Prints events as lines.
#[derive(Debug, Default)]
pub(crate) struct Json {
    /// Of running steps, the characters that their standard output and error have only begun.
    output: BTreeMap<StepId, [Characters; 2]>,
}

impl Json {
    /// What to print for an event. `now` is the time since the start.
    pub(crate) fn event(&mut self, now: Duration, event: &Event) -> String {
        let mut lines = match event {
            Event::StepFinished(id, _) | Event::StepFailed(id, _) | Event::StepCanceled(id) => {
                self.rest(now, *id)
            }
            _ => String::new(),
        };
        let (name, members) = match event {
            Event::Planned(steps) => {
                ("planned", json!({ "steps": steps.iter().map(planned).collect::<Vec<_>>() }))
            }
            Event::StepStarted(id) => ("started", json!({ "step": number(*id) })),
            Event::StepCached(id) => ("cached", json!({ "step": number(*id) })),
            Event::StepWaiting(id, holder) => (
                "waiting",
                json!({
                    "step": number(*id), "pid": holder.pid, "host": holder.host, "since": holder.since,
                    "what": holder.what,
                }),
            ),
            Event::StepOutput(id, stream, bytes) => {
                let text =
                    self.output.entry(*id).or_default()[usize::from(*stream == Stream::Stderr)].push(bytes);
                if text.is_empty() {
                    return String::new();
                }
                ("output", output(*id, *stream, &text))
            }
            Event::StepFinished(id, took) => {
                ("finished", json!({ "step": number(*id), "seconds": round(took.as_secs_f64()) }))
            }
            Event::StepFailed(id, why) => ("failed", json!({ "step": number(*id), "message": why })),
            Event::StepCanceled(id) => ("canceled", json!({ "step": number(*id) })),
            Event::StepExplained(id, why) => ("explained", explained(*id, why)),
            Event::TransferStarted { id, what, kind, total } => (
                "transfer-started",
                json!({ "transfer": id.0, "what": what, "kind": model::verb(*kind), "total": total }),
            ),
            Event::TransferProgress(id, bytes) => {
                ("transfer-progress", json!({ "transfer": id.0, "bytes": bytes }))
            }
            Event::TransferFinished(id, moved) => {
                ("transfer-finished", json!({ "transfer": id.0, "moved": moved }))
            }
            Event::TransferFailed(id) => ("transfer-failed", json!({ "transfer": id.0 })),
            Event::Warning(text) => ("warning", json!({ "message": text })),
            Event::Phase(what) => ("phase", json!({ "what": what })),
        };
        lines.push_str(&line(now, name, members));
        lines
    }

    /// What a step that has ended left of its output.
    fn rest(&mut self, now: Duration, id: StepId) -> String {
        let streams = self.output.remove(&id).into_iter().flatten().zip([Stream::Stdout, Stream::Stderr]);
        let rest = streams.filter_map(|(mut characters, stream)| Some((stream, characters.rest()?)));
        rest.map(|(stream, text)| line(now, "output", output(id, stream, &text))).collect()
    }
}

fn output(id: StepId, stream: Stream, text: &str) -> Value {
    let stream = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    json!({ "step": number(id), "stream": stream, "text": text })
}

/// The line for a command that failed.
pub(crate) fn failure(now: Duration, failure: &Failure) -> String {
    let step = failure.step.as_ref();
    let members = json!({
        "kind": failure.kind.name(), "status": failure.kind.code(), "message": failure.message,
        "details": Some(failure.body.trim_end()).filter(|body| !body.is_empty()),
        "hints": failure.hints, "exit_code": step.map(|end| end.code), "log": step.map(|end| &end.log),
    });
    line(now, "error", members)
}

/// The line for an image that was made.
pub(crate) fn result(now: Duration, image: &str, names: &[String]) -> String {
    line(now, "result", json!({ "image": image, "names": names }))
}

fn line(now: Duration, event: &str, members: Value) -> String {
    let line = Line { v: VERSION, t: round(now.as_secs_f64()), event, members };
    let mut text = serde_json::to_string(&line).expect("a value of strings and numbers is always JSON");
    text.push('\n');
    text
}

fn planned(step: &PlannedStep) -> Value {
    json!({
        "step": number(step.id), "stage": step.stage, "label": step.label,
        "position": step.position.map(|(number, count)| [number, count]),
        "span": [step.span.start, step.span.end],
    })
}

fn explained(id: StepId, why: &Explanation) -> Value {
    let (reason, differences, built) = match why {
        Explanation::Hit { built } => ("hit", &[][..], Some(*built)),
        Explanation::NeverBuilt => ("never-built", &[][..], None),
        Explanation::NoCache => ("no-cache", &[][..], None),
        Explanation::Gone => ("gone", &[][..], None),
        Explanation::Changed(differences) => ("changed", differences.as_slice(), None),
    };
    json!({ "step": number(id), "reason": reason, "differences": differences, "built": built })
}

fn number(id: StepId) -> usize {
    id.index() + 1
}

/// Milliseconds are enough.
fn round(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
