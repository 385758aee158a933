use super::*;

fn names(text: &str) -> Vec<Rc<str>> {
    let source = Arc::new(Source::new("file", text));
    parse(&source).unwrap().into_keys().collect()
}

fn problem(text: &str) -> (usize, String) {
    let source = Arc::new(Source::new("file", text));
    let problem = parse(&source).unwrap_err();
    (problem.at, problem.message)
}

#[test]
fn a_file_is_a_template_and_so_is_what_it_defines() {
    assert_eq!(names("x"), ["file"].map(Rc::from));
    assert_eq!(names("{{define `a/b`}}{{block \"c\" .}}{{end}}{{end}}"), ["a/b", "c", "file"].map(Rc::from));
}

#[test]
fn a_problem_is_where_it_is_caused() {
    assert_eq!(problem("ab {{if 1}} cd"), (3, "the {{if}} is not closed".into()));
    assert_eq!(problem("{{range .}}{{end}}{{$x}}"), (20, "undefined variable $x".into()));
    assert_eq!(problem("{{if 1}}{{end}}{{end}}"), (15, "unexpected {{end}}".into()));
}

#[test]
fn a_definition_sees_neither_variables_nor_loops_around_it() {
    assert_eq!(problem("{{$x := 1}}{{block \"b\" .}}{{$x}}{{end}}").1, "undefined variable $x");
    assert_eq!(
        problem("{{range .}}{{block \"b\" .}}{{break}}{{end}}{{end}}").1,
        "{{break}} outside of {{range}}"
    );
    assert_eq!(names("{{$x := 1}}{{block \"b\" .}}{{end}}{{$x}}"), ["b", "file"].map(Rc::from));
}
