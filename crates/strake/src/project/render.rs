//! From the stage file and the files beside it to one text.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use strake_store::RootDir;
use strake_store::root_dir::EntryType;
use strake_template::{Host, Limits, Lookup, Map, Object, TemplateError, Value};

use super::told::Told;
use crate::failure::{Failure, reason};

/// Where further templates are.
const DIRECTORY: &str = ".dappfiles";

/// The largest template, in bytes.
const TEMPLATE_MAX: u64 = 2 << 20;

/// The largest file that a template may take in, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// More missing files than anybody wants to read of: a template may ask in a loop.
const WARNINGS_MAX: usize = 20;

/// More further templates than any project has.
const TEMPLATES_MAX: usize = 10_000;

/// The templates of a project.
pub(super) struct Templates<'a> {
    /// The project's directory: nothing outside of it is read.
    pub(super) root: Arc<RootDir>,
    /// The stage file in it.
    pub(super) file_name: &'a str,
}

impl Templates<'_> {
    /// Carries out the stage file; also answers what is to be warned of.
    ///
    /// # Errors
    /// When a template cannot be read, is wrong, or fails.
    pub(super) fn render(
        &self,
        now: SystemTime,
        variable: Lookup<'_>,
    ) -> Result<(Told, Vec<String>), Failure> {
        let mut texts = BTreeMap::new();
        let mut order = Vec::new();
        for path in self.further()? {
            let name = path.strip_prefix(DIRECTORY).unwrap_or(&path).to_string_lossy().into_owned();
            order.push((name, path));
        }
        // Of several definitions of a name the last one holds, and that of the stage file is to win.
        order.push((self.file_name.to_owned(), self.file_name.into()));
        let mut templates = strake_template::Templates::new();
        for (name, path) in order {
            let text = self.read(&path)?;
            let added = templates.add(&name, &text);
            texts.insert(name, text);
            added.map_err(|error| wrong(&error, &texts))?;
        }
        let warnings = Rc::new(RefCell::new(BTreeSet::new()));
        let context = Map::new();
        context.insert("Files", files(self.root.clone(), warnings.clone()));
        let host = Host { now: Some(now), env: Some(variable), limits: Limits::default() };
        let rendered = templates
            .render(self.file_name, &context.into(), &host)
            .map_err(|error| wrong(&error, &texts))?;
        let warnings = warnings.borrow().iter().cloned().collect();
        Ok((Told::new(rendered, texts), warnings))
    }

    fn read(&self, path: &Path) -> Result<String, Failure> {
        let bytes = self
            .root
            .read_bounded(path, TEMPLATE_MAX)
            .map_err(|error| Failure::file("read", path, &error))?;
        String::from_utf8(bytes)
            .map_err(|_| Failure::input(format!("read {}: it is not UTF-8", path.display())))
    }

    /// The paths of further templates, in the order of a walk. Links to directories are not followed.
    fn further(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut found = Vec::new();
        let mut waiting = vec![PathBuf::from(DIRECTORY)];
        while let Some(directory) = waiting.pop() {
            let entries = match self.root.read_dir(&directory) {
                Ok(entries) => entries,
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && directory == Path::new(DIRECTORY) =>
                {
                    return Ok(found);
                }
                Err(error) => return Err(Failure::file("read", &directory, &error)),
            };
            let mut below = Vec::new();
            for entry in entries {
                let path = directory.join(&entry.name);
                let metadata = self.root.stat(&path).map_err(|error| Failure::file("read", &path, &error))?;
                if metadata.entry_type == EntryType::Directory {
                    below.push(path);
                } else if path.extension() == Some(OsStr::from_bytes(b"tmpl")) {
                    found.push(path);
                }
            }
            waiting.extend(below.into_iter().rev());
            if found.len() + waiting.len() > TEMPLATES_MAX {
                let message = format!("{DIRECTORY}: more than {TEMPLATES_MAX} templates and directories");
                return Err(Failure::input(message));
            }
        }
        // As a walk meets them: what is in a directory stands where the directory stands.
        found.sort_by(|a, b| a.components().cmp(b.components()));
        Ok(found)
    }
}

/// `.Files`: what a template may ask of the project's files.
fn files(root: Arc<RootDir>, warnings: Rc<RefCell<BTreeSet<String>>>) -> Object {
    let exists = root.clone();
    Object::new("Files")
        .method("Get", move |arguments| {
            let path = one_path("Get", arguments)?;
            match root.read_bounded(Path::new(&path), FILE_MAX) {
                Ok(bytes) => String::from_utf8(bytes).map(Value::from).map_err(|_| {
                    format!("read {path}: it is not UTF-8, so it cannot be part of the stage file")
                }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let mut warnings = warnings.borrow_mut();
                    if warnings.len() < WARNINGS_MAX {
                        warnings
                            .insert(format!(".Files.Get {path:?}: there is no such file; taken as empty"));
                    }
                    Ok(Value::from(""))
                }
                Err(error) => Err(format!("read {path}: {}", reason(&error))),
            }
        })
        .method("Exists", move |arguments| {
            let path = one_path("Exists", arguments)?;
            Ok(Value::from(exists.stat_following(Path::new(&path)).is_ok()))
        })
}

/// A path counts from the project's directory, with or without a slash in front.
fn one_path(method: &str, arguments: &[Value]) -> Result<String, String> {
    match arguments {
        [Value::String(path)] => Ok(path.trim_start_matches('/').to_owned()),
        _ => Err(format!(".Files.{method} wants one path, a text")),
    }
}

fn wrong(error: &TemplateError, texts: &BTreeMap<String, String>) -> Failure {
    super::told::template_failure(error, texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn render(dir: &tempfile::TempDir) -> Result<(String, Vec<String>), Failure> {
        let root = Arc::new(RootDir::open(dir.path()).unwrap());
        let templates = Templates { root, file_name: "strake.yaml" };
        let variable = |name: &str| Ok((name == "V").then(|| "value".to_owned()));
        let (told, warnings) = templates.render(SystemTime::UNIX_EPOCH, &variable)?;
        Ok((told.text().to_owned(), warnings))
    }

    #[test]
    fn templates_files_and_variables_come_together() {
        let text = "{{ include \"a/one.tmpl\" . }}{{ template \"two\" }}{{ .Files.Get \"/f.txt\" }}\
                    {{ .Files.Get \"no\" }}{{ .Files.Exists \"f.txt\" }} {{ env \"V\" }} {{ now | date \"2006\" }}";
        let dir = project(&[
            ("strake.yaml", text),
            (".dappfiles/a/one.tmpl", "1{{ define \"two\" }}old{{ end }}"),
            (".dappfiles/b.tmpl", "{{ define \"two\" }}2{{ end }}"),
            (".dappfiles/b.txt", "{{ this is no template"),
            ("f.txt", "f"),
        ]);
        let (text, warnings) = render(&dir).unwrap();
        assert_eq!(text, "12ftrue value 1970");
        assert_eq!(warnings, [".Files.Get \"no\": there is no such file; taken as empty"]);
    }

    #[test]
    fn missing_files_are_not_told_of_without_end() {
        let text = "{{ range until 1000 }}{{ $.Files.Get \"same\" }}{{ $.Files.Get (toString .) }}{{ end }}";
        let (text, warnings) = render(&project(&[("strake.yaml", text)])).unwrap();
        assert_eq!((text.as_str(), warnings.len()), ("", WARNINGS_MAX));
    }

    #[test]
    fn definitions_of_the_stage_file_win() {
        let dir = project(&[
            ("strake.yaml", "{{ define \"x\" }}mine{{ end }}{{ template \"x\" }}"),
            (".dappfiles/z.tmpl", "{{ define \"x\" }}other{{ end }}"),
        ]);
        assert_eq!(render(&dir).unwrap().0, "mine");
    }

    #[test]
    fn nothing_outside_of_the_project_is_read() {
        let dir = project(&[
            (
                "p/strake.yaml",
                "[{{ .Files.Get \"../secret\" }}{{ .Files.Get \"link\" }}{{ .Files.Get \"dir/secret\" }}]",
            ),
            ("secret", "secret"),
        ]);
        std::os::unix::fs::symlink("../secret", dir.path().join("p/link")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("p/dir")).unwrap();
        let root = Arc::new(RootDir::open(&dir.path().join("p")).unwrap());
        let templates = Templates { root, file_name: "strake.yaml" };
        let text = templates.render(SystemTime::UNIX_EPOCH, &|_| Ok(None)).unwrap().0.text().to_owned();
        assert_eq!(text, "[]");
    }

    #[test]
    fn mistakes_in_templates_have_a_place() {
        let dir = project(&[
            ("strake.yaml", "dimg: ~\nfrom: {{ include \"x\" . }}\n"),
            (".dappfiles/x.tmpl", "{{ define \"x\" }}\n  {{ fail \"no base\" }}{{ end }}"),
        ]);
        let failure = render(&dir).unwrap_err();
        let body = &failure.body;
        assert!(
            body.contains("x.tmpl:2:") && body.contains("no base") && body.contains("fail \"no base\""),
            "{body}"
        );
        std::fs::write(dir.path().join("strake.yaml"), "{{ if }}").unwrap();
        let body = render(&dir).unwrap_err().body;
        assert!(body.contains("strake.yaml:1:"), "{body}");
        std::fs::write(dir.path().join("strake.yaml"), b"\xff").unwrap();
        assert!(render(&dir).unwrap_err().message.contains("not UTF-8"));
    }
}
