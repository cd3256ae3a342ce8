//! What images are built from where nothing can be pulled: the image of docker/Dockerfile, and a Debian.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::{Engine, Image, docker};
use crate::resource_use::shipped_binary;
use crate::support::{binary, installed, root};

/// The Debian of the examples.
const SUITE: &str = "bookworm";
/// What the examples install.
const PACKAGES: &str = "nginx php-fpm redis-server apache2 openssh-server supervisor";
/// The image that stands for `debian:bookworm-slim` here. It is kept, since making it takes half a minute; `make clean`
/// removes it.
const DEBIAN: &str = "rsup-tests:debian-bookworm";

/// The directory with the Dockerfiles.
pub(super) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker")
}

/// The last stage of docker/Dockerfile, around the binary under test; as `make image` builds it.
pub(super) fn rsup_image(engine: Engine) -> Image {
    let context = tempfile::tempdir().unwrap();
    fs::copy(binary(), context.path().join("rsup")).unwrap();
    let dockerfile = fs::read_to_string(directory().join("Dockerfile")).unwrap();
    let (_, last) = dockerfile.split_once("\n\n").unwrap();
    assert!(last.starts_with("FROM scratch\n"), "the last stage: {last}");
    engine.build(&last.replace("--from=build ", ""), context.path())
}

/// Whether the image that stands for Debian's is there, or can be made: from Debian's packages, with the archives of those
/// that the examples install in apt's cache. Their `RUN apt-get` lines run as they stand, but from this cache: apt is told
/// of a proxy that refuses, so that nothing depends on a network, which not every engine gives to builds.
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

/// Builds a Dockerfile with images of ours in place of those that cannot be pulled.
#[track_caller]
pub(super) fn build(rsup: &Image, dockerfile: &str, context: &Path) -> Image {
    // Behind `FROM` and `--from=`; scratch is scratch.
    let stands_for = [
        ("=rsup ", format!("={} ", rsup.name)),
        (" debian:bookworm-slim\n", format!(" {DEBIAN}\n")),
        (" busybox\n", format!(" {DEBIAN}\n")),
        ("=busybox:musl ", format!("={DEBIAN} ")),
    ];
    let replace = |text: String, (public, ours): &(&str, String)| text.replace(public, ours);
    rsup.engine.build(&stands_for.iter().fold(dockerfile.to_owned(), replace), context)
}

/// Whether the examples can be built here.
pub(super) fn ready() -> Result<Engine, String> {
    let engine = docker()?;
    root()?;
    shipped_binary()?;
    debian(engine)?;
    Ok(engine)
}

/// An example's image.
#[track_caller]
pub(super) fn example(engine: Engine, name: &str) -> Image {
    let context = directory().join(name);
    build(&rsup_image(engine), &fs::read_to_string(context.join("Dockerfile")).unwrap(), &context)
}

impl Image {
    /// Its size in bytes on top of Debian's.
    pub(super) fn size(&self) -> u64 {
        let size = |name: &str| {
            self.engine.call(&["image", "inspect", "-f", "{{.Size}}", name]).parse::<u64>().unwrap()
        };
        size(&self.name) - size(DEBIAN)
    }
}
