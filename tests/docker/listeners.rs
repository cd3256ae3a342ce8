//! Event listeners in containers.

use std::fs;
use std::process::Command;

use super::base::{build, ready, rsup_image};
use super::{Container, docker, run};
use crate::listeners::kinds::{self, Server};
use crate::support::{at_once, needs};

/// Each kind of listener has a directory of its own below /srv.
const DOCKERFILE: &str = "\
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3
COPY --from=rsup /sbin/rsup /usr/bin/supervisord
COPY packages /packages
COPY kinds /srv
ENV PYTHONPATH=/packages
CMD [\"supervisord\", \"-c\", \"supervisord.conf\"]
";

impl Server for &Container<'_> {
    fn expect(&mut self, text: &str) {
        self.expect_log(text, 1);
    }

    fn read(&self, file: &str) -> String {
        let Ok(directory) = tempfile::tempdir() else { return String::new() };
        let copy = directory.path().join("copy");
        let from = format!("{}:{}/{file}", self.id, self.inspect(".Config.WorkingDir"));
        let copied = self.image.engine.command(&["cp", &from, copy.to_str().unwrap()]).output().unwrap();
        if copied.status.success() { fs::read_to_string(copy).unwrap() } else { String::new() }
    }

    fn exit_code(&mut self) -> i32 {
        Container::exit_code(self)
    }

    fn stop(&mut self) -> i32 {
        let _time = Container::stop(self);
        Container::exit_code(self)
    }
}

#[test]
fn each_kind_of_listener_works_unchanged_in_a_container() {
    needs!(ready(), kinds::packages());
    let context = tempfile::tempdir().unwrap();
    let copy = ["-r", kinds::packages().unwrap().to_str().unwrap()].map(String::from);
    run(Command::new("cp").args(copy).arg(context.path().join("packages")));
    let kinds = kinds::all();
    for kind in &kinds {
        let directory = context.path().join("kinds").join(kind.name);
        fs::create_dir_all(&directory).unwrap();
        kind.write(&directory);
    }
    let image = build(&rsup_image(docker().unwrap()), "listeners", DOCKERFILE, context.path());
    at_once(&kinds, |kind| {
        let container = image.start(&["-w", &format!("/srv/{}", kind.name)], &[]);
        kind.check(&mut &container);
    });
}
