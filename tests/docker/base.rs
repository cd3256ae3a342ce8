//! The base images of the tests, which need no registry: the image of docker/Dockerfile, and a Debian.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::{Engine, Image, docker};
use crate::resource_use::shipped_binary;
use crate::support::{binary, installed, root};

/// The Debian release of the examples.
const SUITE: &str = "bookworm";
/// The packages that the examples install.
const PACKAGES: &str = "nginx php-fpm redis-server apache2 openssh-server supervisor";
/// The image that replaces `debian:bookworm-slim` in the tests. The tests keep the image, because creating it takes
/// half a minute. `make clean` removes it.
const DEBIAN: &str = "rsup-tests:debian-bookworm";

/// The directory with the Dockerfiles.
pub(super) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker")
}

/// The last stage of docker/Dockerfile with the binary under test, as `make image` builds it.
pub(super) fn rsup_image(engine: Engine) -> Image {
    let context = tempfile::tempdir().unwrap();
    fs::copy(binary(), context.path().join("rsup")).unwrap();
    let dockerfile = fs::read_to_string(directory().join("Dockerfile")).unwrap();
    let (_, last) = dockerfile.split_once("\n\n").unwrap();
    assert!(last.starts_with("FROM scratch\n"), "the last stage: {last}");
    let image = engine.build(&last.replace("--from=build ", ""), context.path());
    image.keep("rsup");
    image
}

/// Creates the Debian image from Debian's packages, unless it exists. apt's cache in the image contains the packages
/// that the examples install, so that the examples' `RUN apt-get` lines run unchanged. apt is configured with a proxy
/// that refuses connections, so that the builds need no network, which some engines do not provide.
fn debian(engine: Engine) -> Result<(), String> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if engine.command(&["image", "inspect", DEBIAN]).output().unwrap().status.success() {
        return Ok(());
    }
    installed("mmdebstrap")?;
    let offline = "Acquire::http::Proxy \\\"http://127.0.0.1:9\\\"; Acquire::Retries 0;";
    let in_chroot = |command: &str| format!("--customize-hook=chroot \"$1\" apt-get {command}");
    let mut made = Command::new("mmdebstrap");
    made.args([
        "--quiet",
        "--variant=minbase",
        "--include=busybox-static",
        "--skip=cleanup/apt",
        "--dpkgopt=force-unsafe-io",
    ])
    .args(["doc", "locale", "man"].map(|kind| format!("--dpkgopt=path-exclude=/usr/share/{kind}/*")))
    .arg(in_chroot("clean"))
    .arg(in_chroot(&format!("install -qq --no-install-recommends --download-only {PACKAGES}")))
    .arg(format!("--customize-hook=echo \"{offline}\" >\"$1/etc/apt/apt.conf.d/offline\""))
    .args([SUITE, "-"]);
    let mut made = made.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let imported =
        engine.command(&["import", "-", DEBIAN]).stdin(made.stdout.take().unwrap()).output().unwrap();
    let made = made.wait().unwrap();
    if made.success() {
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        return Ok(());
    }
    let _output = engine.command(&["rmi", DEBIAN]).output();
    Err(format!("needs Debian's packages, and mmdebstrap fails: {made}"))
}

/// Builds a Dockerfile after replacing the images that would have to be pulled by the tests' own. Keeps the image under
/// a name.
#[track_caller]
pub(super) fn build(rsup: &Image, name: &str, dockerfile: &str, context: &Path) -> Image {
    // Image names follow `FROM` and `--from=`. The name `scratch` is not replaced.
    let stands_for = [
        ("=rsup ", format!("={} ", rsup.name)),
        (" debian:bookworm-slim\n", format!(" {DEBIAN}\n")),
        (" busybox\n", format!(" {DEBIAN}\n")),
        ("=busybox:musl ", format!("={DEBIAN} ")),
    ];
    let replace = |text: String, (public, ours): &(&str, String)| text.replace(public, ours);
    let image = rsup.engine.build(&stands_for.iter().fold(dockerfile.to_owned(), replace), context);
    image.keep(name);
    image
}

/// Whether this machine can build the examples.
pub(super) fn ready() -> Result<Engine, String> {
    let engine = docker()?;
    root()?;
    shipped_binary()?;
    debian(engine)?;
    Ok(engine)
}

/// The image of an example.
#[track_caller]
pub(super) fn example(engine: Engine, name: &str) -> Image {
    let context = directory().join(name);
    build(&rsup_image(engine), name, &fs::read_to_string(context.join("Dockerfile")).unwrap(), &context)
}

impl Image {
    /// Keeps the layers of a Docker image after the test, in place of those of the last image with this name. Docker's
    /// next build then uses the layers with installed packages again. Without a second name, the end of a test would
    /// remove layers that the build of another test is about to use. `make clean` removes the kept images.
    fn keep(&self, name: &str) {
        if self.engine != Engine::Docker {
            return;
        }
        let kept = format!("rsup-tests:kept-{name}");
        let inspect = |image: &str, field: &str| {
            let asked = self.engine.command(&["image", "inspect", "-f", field, image]).output().unwrap();
            String::from_utf8_lossy(&asked.stdout).trim().to_owned()
        };
        let before = inspect(&kept, "{{.Id}}");
        self.engine.call(&["tag", &self.name, &kept]);
        // An image that still has a name is this image again, or belongs to another run.
        if inspect(&before, "{{len .RepoTags}}") == "0" {
            let _output = self.engine.command(&["rmi", &before]).output();
        }
    }

    /// The image's size in bytes, without the Debian image.
    pub(super) fn size(&self) -> u64 {
        let size = |name: &str| {
            self.engine.call(&["image", "inspect", "-f", "{{.Size}}", name]).parse::<u64>().unwrap()
        };
        size(&self.name) - size(DEBIAN)
    }
}
