//! Event listeners in containers.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::base::{build, ready, rsup_image};
use super::{Container, docker, run};
use crate::listeners::kinds::{self, Server};
use crate::support::{at_once, needs};

/// The directory of a kind of listener is mounted at /srv.
const DOCKERFILE: &str = "\
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3
COPY packages /packages
COPY --from=rsup /sbin/rsup /usr/bin/supervisord
ENV PYTHONPATH=/packages
WORKDIR /srv
CMD [\"supervisord\", \"-c\", \"supervisord.conf\"]
";
/// The parts of the installed packages that the listeners and the mail server import.
const PACKAGES: [&str; 6] = ["superlance", "supervisor", "aiosmtpd", "attr", "attrs", "public"];

/// A container, and the directory that is mounted at /srv.
struct Mounted<'a> {
    container: Container<'a>,
    directory: &'a Path,
}

impl Server for Mounted<'_> {
    fn expect(&mut self, text: &str) {
        self.container.expect_log(text, 1);
    }

    fn text_of_log(&self) -> String {
        self.container.logs()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.directory.join(file)).unwrap_or_default()
    }

    fn exit_code(&mut self) -> i32 {
        self.container.image.engine.call(&["wait", &self.container.id]).parse().unwrap()
    }

    fn stop(&mut self) -> i32 {
        let _time = self.container.stop();
        self.exit_code()
    }
}

#[test]
fn each_kind_of_listener_works_unchanged_in_a_container() {
    needs!(ready(), kinds::packages());
    let context = tempfile::tempdir().unwrap();
    let copies = context.path().join("packages");
    fs::create_dir(&copies).unwrap();
    let installed = kinds::packages().unwrap();
    run(Command::new("cp").arg("-r").args(PACKAGES.map(|name| installed.join(name))).arg(&copies));
    let image = build(&rsup_image(docker().unwrap()), "listeners", DOCKERFILE, context.path());
    at_once(&kinds::all(), |kind| {
        let directory = tempfile::tempdir().unwrap();
        kind.write(directory.path());
        let volume = format!("{}:/srv", directory.path().display());
        let container = image.start(&["-v", &volume], &[]);
        kind.check(&mut Mounted { container, directory: directory.path() });
    });
}
