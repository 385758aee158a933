//! A stage file as people write it.

use strake_template::{Host, Map, Templates, Value};

const FILE: &str = r#"{{ $base := env "BASE_IMAGE" | default "alpine:3.20" }}
dimg: base
from: {{ $base }}
mount:
- from: build_dir
  to: /var/cache/apk
shell:
  beforeInstall:
  {{- include "pkg" (list "git" "make") | nindent 2 }}
---
dimg: [api, worker]
fromDimg: base
shell:
  beforeSetup:
  - make -C /opt/app
{{- define "pkg" }}
- apk add{{ range . }} {{ . }}{{ end }}
{{- end }}
"#;

const RENDERED: &str = "
dimg: base
from: alpine:3.20
mount:
- from: build_dir
  to: /var/cache/apk
shell:
  beforeInstall:
  
  - apk add git make
---
dimg: [api, worker]
fromDimg: base
shell:
  beforeSetup:
  - make -C /opt/app
";

fn rendered() -> strake_template::Rendered {
    let mut templates = Templates::new();
    templates.add("dappfile.yml", FILE).unwrap();
    let host = Host { env: Some(&|_| Ok(None)), ..Host::default() };
    templates.render("dappfile.yml", &Value::Map(Map::new()), &host).unwrap()
}

#[test]
fn a_template_in_the_file_itself_is_included_and_indented() {
    assert_eq!(rendered().text, RENDERED);
}

#[test]
fn its_lines_are_found_again() {
    let rendered = rendered();
    let line = |line: usize| rendered.origin(line).map(|place| (place.line, place.column));
    assert_eq!(line(2), Some((2, 1)), "dimg: base");
    assert_eq!(line(3), Some((3, 1)), "from: with a value in it");
    assert_eq!(line(8), Some((8, 3)), "the last line before the include");
    assert_eq!(line(10), Some((9, 7)), "what was included");
    assert_eq!(line(11), Some((10, 1)), "---");
    assert_eq!(line(16), Some((15, 3)), "the last line");
    assert_eq!(line(17), None);
    assert_eq!(line(0), None);
}
