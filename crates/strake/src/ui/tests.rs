use std::time::Duration;

use strake_engine::{Event, Explanation, PlannedStep, Stream, TransferId, TransferKind};
use strake_graph::{Graph, Op, Span, Step, StepId};
use strake_oci::Platform;

use super::plain::Plain;
use super::tty::{Size, Tty};
use super::{Failure, Json, json};
use crate::failure::{Kind, StepEnd};

fn planned(labels: &[&str]) -> (Vec<StepId>, Event) {
    let mut graph = Graph::new();
    let count = u32::try_from(labels.len()).unwrap();
    let step = |label: &&str| Step {
        op: Op::Scratch,
        platform: Platform::linux("amd64"),
        span: Span::new(1, 2),
        label: (*label).to_owned(),
        stage: "app".to_owned(),
        position: None,
        no_cache: false,
        named: None,
    };
    let ids: Vec<_> = labels.iter().map(|label| graph.push_step(step(label))).collect();
    let plan = ids.iter().zip(labels).zip(1..).map(|((id, label), number)| PlannedStep {
        id: *id,
        stage: "app".to_owned(),
        label: (*label).to_owned(),
        position: Some((number, count)),
        span: Span::new(1, 2),
    });
    let plan = plan.collect();
    (ids, Event::Planned(plan))
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn failed(message: &str) -> Failure {
    Failure {
        step: Some(StepEnd { code: 7, log: "/logs/1".into() }),
        ..Failure::new(Kind::Step, message).hint("look")
    }
}

#[test]
fn plain_lines_look_like_buildkit() {
    let (ids, plan) = planned(&["FROM a", "RUN make", "RUN test"]);
    let mut plain = Plain::new(false, 1_000);
    let mut out = plain.event(at(0), &plan);
    let mut event = |millis, event: Event| out.push_str(&plain.event(at(millis), &event));
    event(0, Event::StepCached(ids[0]));
    event(10, Event::StepStarted(ids[1]));
    event(322, Event::StepOutput(ids[1], Stream::Stdout, b"one\ntw".to_vec()));
    event(330, Event::StepStarted(ids[2]));
    event(340, Event::StepOutput(ids[2], Stream::Stderr, b"\x1b[31mred\x1b[0m\n".to_vec()));
    event(400, Event::StepOutput(ids[1], Stream::Stdout, b"o\nthree".to_vec()));
    event(1_210, Event::StepFinished(ids[1], at(1_200)));
    event(1_300, Event::StepFailed(ids[2], "exit code 7".to_owned()));
    out.push_str(&plain.finish(at(1_400)));
    assert_eq!(
        out,
        "#1 [app 1/3] FROM a\n#1 CACHED\n\n#2 [app 2/3] RUN make\n#2 0.312 one\n\n#3 [app 3/3] RUN test\n#3 0.010 red\n\n\
         #2 [app 2/3] RUN make\n#2 0.390 two\n#2 1.200 three\n#2 DONE 1.2s\n\n\
         #3 [app 3/3] RUN test\n#3 ERROR: exit code 7\n\n"
    );
}

#[test]
fn plain_explains_and_counts_bytes() {
    let (ids, plan) = planned(&["COPY . ."]);
    let changed = Explanation::Changed(vec!["file a: content changed".into(), "file b: new".into()]);
    let mut out = String::new();
    for explain in [false, true] {
        let mut plain = Plain::new(explain, 1_000);
        out.push_str(&plain.event(at(0), &plan));
        out.push_str(&plain.event(at(0), &Event::StepExplained(ids[0], changed.clone())));
        out.push_str(&plain.finish(at(0)));
    }
    let mut plain = Plain::new(false, 1_000);
    let started = Event::TransferStarted {
        id: TransferId(4),
        what: "layer 3a".into(),
        kind: TransferKind::Pull,
        total: Some(2_000_000),
    };
    out.push_str(&plain.event(at(0), &started));
    out.push_str(&plain.event(at(1_000), &Event::TransferProgress(TransferId(4), 500_000)));
    out.push_str(&plain.event(at(6_000), &Event::TransferProgress(TransferId(4), 1_500_000)));
    out.push_str(&plain.event(at(8_000), &Event::TransferFinished(TransferId(4), true)));
    out.push_str(&plain.event(at(8_000), &Event::Phase("exporting".into())));
    out.push_str(&plain.finish(at(8_500)));
    assert_eq!(
        out,
        "#1 [app 1/1] COPY . .\n#1 not cached: file a: content changed\n#1 not cached: and 1 more (--explain)\n\n\
         #1 [app 1/1] COPY . .\n#1 not cached: file a: content changed\n#1 not cached: file b: new\n\n\
         #1 pull layer 3a\n#1 1.50 MB / 2.00 MB  250 kB/s\n#1 DONE 2.00 MB 8.0s\n\n#2 exporting\n#2 DONE 0.5s\n\n"
    );
}

#[test]
fn json_lines_are_stable() {
    let (ids, plan) = planned(&["RUN \u{1b}x"]);
    let mut json = Json::default();
    let lines = [
        json.event(at(0), &plan),
        json.event(at(1), &Event::StepStarted(ids[0])),
        json.event(at(1_234), &Event::StepOutput(ids[0], Stream::Stderr, b"a\xff\n".to_vec())),
        json.event(at(2), &Event::StepExplained(ids[0], Explanation::Hit { built: 5 })),
        json.event(at(2), &Event::StepFinished(ids[0], at(1_500))),
        json.event(at(2), &Event::TransferFinished(TransferId(3), false)),
        json.event(at(2), &Event::TransferFailed(TransferId(4))),
        json::failure(at(3), &failed("process failed")),
        json::result(at(3), "sha256:00", &["a:1".to_owned()]),
    ];
    let expect = r#"{"v":1,"t":0.0,"event":"planned","steps":[{"step":1,"stage":"app","label":"RUN \u001bx","position":[1,1],"span":[1,2]}]}
{"v":1,"t":0.001,"event":"started","step":1}
{"v":1,"t":1.234,"event":"output","step":1,"stream":"stderr","text":"a�\n"}
{"v":1,"t":0.002,"event":"explained","step":1,"reason":"hit","differences":[],"built":5}
{"v":1,"t":0.002,"event":"finished","step":1,"seconds":1.5}
{"v":1,"t":0.002,"event":"transfer-finished","transfer":3,"moved":false}
{"v":1,"t":0.002,"event":"transfer-failed","transfer":4}
{"v":1,"t":0.003,"event":"error","kind":"step","status":1,"message":"process failed","details":null,"hints":["look"],"exit_code":7,"log":"/logs/1"}
{"v":1,"t":0.003,"event":"result","image":"sha256:00","names":["a:1"]}
"#;
    assert_eq!(lines.concat(), expect);
}

#[test]
fn characters_survive_the_edges_of_pieces() {
    let (ids, plan) = planned(&["RUN x"]);
    let crab = "🦀".as_bytes();
    let pieces = [
        (Stream::Stdout, &crab[..1]),
        (Stream::Stderr, &crab[..2]),
        (Stream::Stdout, &crab[1..]),
        (Stream::Stderr, &crab[2..]),
        (Stream::Stderr, b"\n"),
        (Stream::Stdout, b"\n\xc3"),
    ];
    let mut json = Json::default();
    let mut plain = Plain::new(false, 1_000);
    let mut told = json.event(at(0), &plan);
    let mut printed = plain.event(at(0), &plan);
    let output = pieces.map(|(stream, bytes)| Event::StepOutput(ids[0], stream, bytes.to_vec()));
    for event in output.iter().chain([&Event::StepFinished(ids[0], at(0))]) {
        told.push_str(&json.event(at(0), event));
        printed.push_str(&plain.event(at(0), event));
    }
    let told: Vec<&str> = told.lines().skip(1).collect();
    let output = |stream: &str, text: &str| {
        format!(r#"{{"v":1,"t":0.0,"event":"output","step":1,"stream":"{stream}","text":"{text}"}}"#)
    };
    let expect = [
        output("stdout", "🦀"),
        output("stderr", "🦀"),
        output("stderr", r"\n"),
        output("stdout", r"\n"),
        output("stdout", "\u{fffd}"),
        r#"{"v":1,"t":0.0,"event":"finished","step":1,"seconds":0.0}"#.to_owned(),
    ];
    assert_eq!(told, expect);
    assert_eq!(printed, "#1 [app 1/1] RUN x\n#1 0.000 🦀\n#1 0.000 🦀\n#1 0.000 \u{fffd}\n#1 DONE 0.0s\n\n");
}

/// A terminal, as far as frames need one: it wraps, scrolls, moves up and erases.
struct Screen {
    columns: usize,
    cells: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Screen {
    fn new(columns: usize) -> Self {
        Self { columns, cells: vec![Vec::new()], row: 0, column: 0 }
    }

    fn write(&mut self, text: &str) {
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => self.down(),
                '\u{1b}' => {
                    assert_eq!(rest.next(), Some('['));
                    let mut parameter = String::new();
                    let end = loop {
                        match rest.next().unwrap() {
                            c @ ('0'..='9' | ';' | '?') => parameter.push(c),
                            end => break end,
                        }
                    };
                    self.control(end, &parameter);
                }
                c => self.put(c),
            }
        }
    }

    fn control(&mut self, end: char, parameter: &str) {
        match end {
            'A' => {
                let up: usize = parameter.parse().unwrap();
                assert!(up <= self.row, "moves above the first line");
                self.row -= up;
            }
            'J' => {
                self.cells.truncate(self.row + 1);
                self.cells[self.row].truncate(self.column);
            }
            'm' => {}
            other => panic!("unexpected control {other}"),
        }
    }

    fn down(&mut self) {
        self.row += 1;
        while self.cells.len() <= self.row {
            self.cells.push(Vec::new());
        }
    }

    fn put(&mut self, c: char) {
        let wide = unicode_width::UnicodeWidthChar::width(c).unwrap();
        if self.column + wide > self.columns {
            self.column = 0;
            self.down();
        }
        let line = &mut self.cells[self.row];
        line.resize(line.len().max(self.column + 1), ' ');
        line[self.column] = c;
        self.column += 1;
        if wide == 2 {
            line.insert(self.column, '\0');
            self.column += 1;
        }
    }

    /// Lines longer than the new width wrap, as terminals do it.
    fn resize(&mut self, columns: usize) {
        let cells = self.cells.clone();
        self.cells = cells
            .iter()
            .flat_map(|line| match line.is_empty() {
                true => vec![Vec::new()],
                false => line.chunks(columns).map(<[char]>::to_vec).collect(),
            })
            .collect();
        self.columns = columns;
        self.row = self.cells.len() - 1;
        self.column = 0;
    }

    fn text(&self) -> String {
        let line =
            |line: &Vec<char>| line.iter().filter(|c| **c != '\0').collect::<String>().trim_end().to_owned();
        self.cells.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

const WIDE: Size = Size { columns: 44, rows: 12 };

#[test]
fn a_terminal_shows_what_runs_below_what_is_finished() {
    let (ids, plan) = planned(&["FROM a", "RUN make", "RUN 漢字"]);
    let mut tty = Tty::new("Building", true, false, 1_000);
    let mut screen = Screen::new(44);
    tty.event(at(0), &plan);
    tty.event(at(0), &Event::StepCached(ids[0]));
    tty.event(at(100), &Event::StepStarted(ids[1]));
    tty.event(at(100), &Event::StepStarted(ids[2]));
    tty.event(at(200), &Event::StepOutput(ids[1], Stream::Stdout, b"first\n\x1b[2Jsecond\npart".to_vec()));
    screen.write(&tty.frame(at(1_100), WIDE));
    assert_eq!(
        screen.text(),
        " => CACHED [app 1/3] FROM a\n\
         [+] Building 1.1s (1/3)\n\
         \u{20}=> [app 2/3] RUN make                 1.0s\n\
         \u{20}   first\n\
         \u{20}   second\n\
         \u{20}=> [app 3/3] RUN 漢字                 1.0s\n"
    );
    tty.event(at(2_000), &Event::StepFinished(ids[1], at(1_900)));
    tty.event(at(2_000), &Event::StepFailed(ids[2], "exit code 1".into()));
    screen.write(&tty.frame(at(2_000), WIDE));
    screen.write(&tty.finish(at(2_100), WIDE));
    assert_eq!(
        screen.text(),
        " => CACHED [app 1/3] FROM a\n\
         \u{20}=> [app 2/3] RUN make                 1.9s\n\
         \u{20}=> ERROR [app 3/3] RUN 漢字           1.9s\n\
         [+] Building 2.1s (3/3)\n"
    );
}

#[test]
fn a_terminal_that_shrinks_keeps_no_rubbish() {
    let (ids, plan) = planned(&["RUN a rather long instruction", "RUN b"]);
    let mut tty = Tty::new("Building", false, false, 1_000);
    let mut screen = Screen::new(44);
    tty.event(at(0), &plan);
    tty.event(at(0), &Event::StepStarted(ids[0]));
    screen.write(&tty.frame(at(500), WIDE));
    screen.resize(20);
    let narrow = Size { columns: 20, rows: 5 };
    screen.write(&tty.frame(at(1_000), narrow));
    assert_eq!(screen.text(), "[+] Building 1.0s …\n => [app 1/2]… 1.0s\n");
    // More than fits is said, not shown.
    tty.event(at(0), &Event::StepStarted(ids[1]));
    for id in 0..9 {
        let what = format!("layer {id}");
        tty.event(
            at(0),
            &Event::TransferStarted { id: TransferId(id), what, kind: TransferKind::Pull, total: None },
        );
    }
    screen.write(&tty.frame(at(1_500), narrow));
    assert_eq!(screen.text().lines().count(), 3);
    assert!(screen.text().contains("… and 10 more"), "{}", screen.text());
    let tiny = Size { columns: 1, rows: 1 };
    screen.resize(1);
    screen.write(&tty.frame(at(1_500), tiny));
    screen.write(&tty.finish(at(1_500), tiny));
    assert_eq!(screen.text(), "");
}
