use std::sync::mpsc::channel;

use strake_frontend::dockerfile::ImageFact;
use strake_frontend::stagefile::parse;
use strake_oci::{Digest, ImageConfig};

use super::*;

/// Tasks in the order of their rows, each with the one that needs it.
fn crew<const N: usize>(hosts: [Option<usize>; N], jobs: usize) -> (Crew, [ImageId; N]) {
    let text = (0..N).map(|number| format!("dimg: i{number}\nfrom: a\n")).collect::<Vec<_>>().join("---\n");
    let ids: Vec<_> = parse(&text).file.unwrap().images().map(|(id, _)| id).collect();
    let ids: [ImageId; N] = ids.try_into().unwrap();
    let place = |host: Option<usize>| Place { host: host.map(|host| ids[host]), level: 0 };
    let tasks = ids.into_iter().zip(hosts.map(place)).collect();
    (Crew::new(tasks, NonZeroUsize::new(jobs).unwrap()), ids)
}

fn made(name: &str) -> Below {
    let config: ImageConfig = serde_json::from_str(
        r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#,
    )
    .unwrap();
    let id = strake_oci::ImageId(Digest::of(name.as_bytes()));
    Below { reference: name.parse().unwrap(), fact: ImageFact { id, config } }
}

fn shown(crew: &Crew, image: ImageId) -> String {
    let mut all = String::new();
    crew.show(image, &mut |text| {
        all += text;
        Ok(())
    })
    .unwrap();
    all
}

#[test]
fn one_image_or_one_job_is_no_crowd() {
    let (alone, [image]) = crew([None], 4);
    assert!(!alone.has_tasks() && alone.outsider().turn(image) == Turn::Own);
    assert!(!crew([None, None], 1).0.has_tasks());
    assert!(crew([None, None], 2).0.has_tasks());
}

#[test]
fn rows_of_what_is_needed_are_shown_where_it_is_needed_and_once() {
    let (crew, [web, assets]) = crew([None, Some(0)], 2);
    let member = crew.outsider();
    assert_eq!(member.turn(web), Turn::Task(Place { host: None, level: 0 }));
    assert!(matches!(member.turn(web), Turn::Others(_)));
    member.carry_out(web, || {
        crew.rows(web, "a");
        member.nest(web, assets);
        assert!(matches!(member.turn(assets), Turn::Task(_)));
        member.carry_out(assets, || {
            crew.output(assets, "b");
            Ok(made("assets"))
        });
        crew.rows(web, "c");
        Ok(made("web"))
    });
    assert_eq!(shown(&crew, web), "abc");
    assert_eq!(shown(&crew, assets), "");
    assert_eq!(member.wait_for(assets).unwrap().0.reference, made("assets").reference);
    assert!(crew.failure().is_none());
}

#[test]
fn who_waits_lets_others_go_on() {
    let (crew, ids) = crew([None, None, None], 2);
    let (sender, receiver) = channel();
    let receiver = Mutex::new(receiver);
    // The first waits for the second, and that one for a word of the third, which is begun meanwhile.
    let work = |member: Member<'_>, image: ImageId, _: Place| {
        match ids.iter().position(|id| *id == image) {
            Some(0) => drop(member.wait_for(ids[1])?),
            Some(1) => receiver.lock().unwrap().recv().unwrap(),
            _ => sender.send(()).unwrap(),
        }
        Ok(made("image"))
    };
    std::thread::scope(|scope| {
        scope.spawn(|| crew.begin_all(scope, &work));
        ids.iter().for_each(|image| drop(crew.outsider().wait_for(*image).unwrap()));
    });
    assert_eq!(crew.lock().free, 2);
}

#[test]
fn after_a_failure_nothing_is_begun_and_nobody_waits() {
    let (crew, [first, second, third]) = crew([None, None, Some(0)], 2);
    let member = crew.outsider();
    member.turn(second);
    crew.rows(second, "x");
    member.carry_out(second, || Err(Failure::input("second")));
    assert!(member.go_on().is_err());
    assert!(member.wait_for(first).is_err() && member.wait_for(second).is_err());
    assert_eq!(shown(&crew, first), "");
    member.turn(third);
    member.carry_out(third, || Err(stopped()));
    let (image, _, failure) = crew.failure().unwrap();
    assert_eq!((image, failure.message.as_str()), (second, "second"));
    assert_eq!(shown(&crew, second), "x");
    std::thread::scope(|scope| crew.begin_all(scope, &|_, _, _| unreachable!("nothing is begun")));
}

#[test]
fn who_stops_because_nobody_waits_has_not_failed() {
    let (crew, [first, second]) = crew([None, None], 2);
    let member = crew.outsider();
    member.turn(first);
    crew.end();
    member.carry_out(first, || member.go_on().map(|()| made("first")));
    assert!(crew.failure().is_none() && member.wait_for(second).is_err());
}

#[test]
fn who_is_read_waits_for_the_reader_and_loses_nothing() {
    let (crew, [image, _]) = crew([None, None], 2);
    let member = crew.outsider();
    member.turn(image);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| shown(&crew, image));
        while !crew.lock().task(image).shown {
            std::thread::yield_now();
        }
        member.carry_out(image, || {
            let line = "y".repeat(OUTPUT_MAX / 4);
            (0..10).for_each(|_| crew.output(image, &line));
            Ok(made("image"))
        });
        assert_eq!(reader.join().unwrap().len(), OUTPUT_MAX / 4 * 10);
    });
}

#[test]
fn a_stage_is_claimed_by_one() {
    let (crew, _) = crew([None, None], 2);
    let claim = crew.outsider().claim("s");
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sender.send("wants it").unwrap();
            let _claim = crew.outsider().claim("s");
            sender.send("has it").unwrap();
        });
        let _other = crew.outsider().claim("t");
        assert_eq!(receiver.recv(), Ok("wants it"));
        assert!(receiver.recv_timeout(Duration::from_millis(20)).is_err());
        drop(claim);
        assert_eq!(receiver.recv(), Ok("has it"));
    });
}

#[test]
fn a_sheet_does_not_grow_for_ever() {
    let (crew, [image, _]) = crew([None, None], 2);
    let member = crew.outsider();
    member.turn(image);
    member.carry_out(image, || {
        let line = "y".repeat(OUTPUT_MAX / 4);
        (0..10).for_each(|_| crew.output(image, &line));
        crew.rows(image, "end");
        Ok(made("image"))
    });
    let all = shown(&crew, image);
    assert_eq!(all.matches('y').count(), OUTPUT_MAX / 4 * 4 + all.matches("bytes").count());
    assert!(all.ends_with(&format!("\n[{} bytes left out; the log has them]\nend", OUTPUT_MAX / 4 * 6)));
}
