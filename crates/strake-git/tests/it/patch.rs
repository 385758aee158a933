//! Sizes of patches, compared with those git makes.

use strake_git::Selection;

use crate::fixture::{Fixture, Repo, add, root};

const DIFF: [&str; 8] = [
    "diff",
    "--binary",
    "--full-index",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "-U999999999",
    "--relative",
];

fn expected(repo: &Repo<'_>, directory: &str, from: &str, to: &str) -> u64 {
    repo.below(directory).git_bytes(&[&DIFF[..], &[from, to]].concat()).len() as u64
}

#[test]
fn a_patch_is_as_large_as_that_of_git() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let noise: Vec<u8> =
        (0..50_000u64).map(|number| (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    repo.write("web/text", "1\n".repeat(1000))
        .write("web/binary", &noise)
        .write("web/gone", "x")
        .write("other", "1");
    repo.write("web/becomes-link", "no end of line").write("web/deep/er/file", "1\n");
    repo.write("web/order.x", "1\n");
    let one = repo.commit("one");
    repo.write("web/text", "1\n".repeat(500) + "2\n" + &"1\n".repeat(500)).write("web/binary", &noise[1..]);
    repo.remove("web/gone").remove("web/becomes-link").link("web/becomes-link", "x").executable("web/text");
    repo.write("other", "2").write("web/deep/er/file", "2\n").write("web/deep.er", "3");
    repo.write_bytes(b"web/new\n\xff\"", b"a\0b");
    // Sorted before the directory, whose name ends with a slash as it were.
    repo.write("web/order.x", "2\n").write("web/order/new", "1\n");
    let two = repo.commit("two");
    let repository = repo.open();
    for (path, directory) in [("/", ""), ("/web", "web")] {
        for (from, to) in [(one, two), (two, one)] {
            let size = repository.patch_size(from, to, &add(path), Selection::everything()).unwrap();
            assert_eq!(size, expected(&repo, directory, &from.to_string(), &to.to_string()), "{path}");
            assert_eq!(repository.patch_steps(from, to, &add(path), Selection::everything()).unwrap(), 0);
        }
    }
    assert_eq!(repository.patch_size(one, one, &root(), Selection::everything()).unwrap(), 0);
    let nothing = Selection { selects: &|_| false, may_descend: &|_| true };
    assert_eq!(repository.patch_size(one, two, &root(), nothing).unwrap(), 0);
    fixture.assert_scratch_is_empty();
}

#[test]
fn steps_are_full_mebibytes_and_the_bound_never_lies() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    let one = repo.commit("one");
    let repository = |kib: usize| {
        repo.write("text", "a\n".repeat(kib * 512));
        let commit = repo.commit("more");
        let repository = repo.open();
        let size = repository.patch_size(one, commit, &root(), Selection::everything()).unwrap();
        let steps = repository.patch_steps(one, commit, &root(), Selection::everything()).unwrap();
        assert_eq!(steps, size >> 20, "{kib}");
        steps
    };
    // Each line of two bytes takes three.
    assert_eq!(repository(400), 0);
    assert_eq!(repository(682), 0);
    assert_eq!(repository(690), 1);
    assert_eq!(repository(1400), 2);
}

#[test]
fn configuration_and_attributes_do_not_change_a_patch() {
    let fixture = Fixture::new();
    let repo = fixture.init("r");
    repo.write("a", "1\n2\n3\n").write(".gitattributes", "* -diff\n");
    let one = repo.commit("one");
    repo.write("a", "1\n2\n4\n");
    let two = repo.commit("two");
    let before = repo.open().patch_size(one, two, &root(), Selection::everything()).unwrap();
    let config = "[diff]\nnoprefix = true\nmnemonicPrefix = true\nexternal = /bin/false\ncontext = 0\n";
    std::fs::write(fixture.path("home/.gitconfig"), config).unwrap();
    for setting in
        [["diff.external", "/bin/false"], ["diff.noprefix", "true"], ["core.attributesFile", "/nothing"]]
    {
        repo.git(&["config", setting[0], setting[1]]);
    }
    assert_eq!(repo.open().patch_size(one, two, &root(), Selection::everything()).unwrap(), before);
}
