//! The same image with supervisord and with rsup.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use super::base::{build, directory, ready, rsup_image};
use super::{Container, GET, Image, ask, docker};
use crate::support::{eventually, needs, proc};

const EXAMPLE: &str = "from-supervisord";
const SSH: &str = "SSH-2.0-OpenSSH";

/// The Dockerfiles with supervisord and with rsup.
fn dockerfiles() -> [String; 2] {
    let directory = directory().join(EXAMPLE);
    ["Dockerfile.supervisord", "Dockerfile"].map(|name| fs::read_to_string(directory.join(name)).unwrap())
}

/// The images with supervisord and with rsup.
fn images() -> [Image; 2] {
    let rsup = rsup_image(docker().unwrap());
    let image = |name: &str, dockerfile: &str| build(&rsup, name, dockerfile, &directory().join(EXAMPLE));
    let [old, new] = dockerfiles();
    // The two builds run at the same time, because each takes several seconds.
    std::thread::scope(|scope| {
        let old = scope.spawn(|| image("supervisord", &old));
        let new = image(EXAMPLE, &new);
        [old.join().unwrap(), new]
    })
}

/// The programs that are RUNNING according to a log.
fn running(logs: &str) -> BTreeSet<String> {
    let names =
        logs.lines().filter_map(|line| line.split_once("success: ")?.1.split_once(" entered RUNNING state"));
    names.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn the_file_stays_and_three_lines_of_the_dockerfile_change() {
    needs!(ready());
    let [old, new] = dockerfiles();
    assert_eq!(new.lines().filter(|line| !old.lines().any(|other| other == *line)).count(), 3);
    assert_eq!(old.lines().filter(|line| !new.lines().any(|other| other == *line)).count(), 2);

    let images = images();
    let [supervisord, rsup] = images.each_ref().map(|image| {
        let container = image.publish(&[]);
        container.expect_running(&["sshd", "apache2"]);
        container.expect_answer(22, "", SSH);
        container.expect_answer(80, GET, "200 OK");
        container
    });
    let names = |container: &Container| {
        proc::children(container.pid()).into_iter().map(|child| child.name).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&supervisord), names(&rsup));
    assert_eq!(running(&supervisord.logs()), running(&rsup.logs()));
    supervisord.stop_well();

    for program in ["sshd", "apache2"] {
        rsup.kill_and_expect_another(program);
    }
    rsup.expect_answer(22, "", SSH);
    rsup.expect_answer(80, GET, "200 OK");
    rsup.stop_well();
}

/// Runs a container once. Returns the time from its start until both ports answer, the resident memory of its PID 1,
/// and the duration of `docker stop`.
fn life(image: &Image) -> (Duration, u64, Duration) {
    let container = image.create();
    let begin = Instant::now();
    container.start();
    let [ssh, http] = [22, 80].map(|port| container.published(port));
    eventually("both ports answer", || ask(ssh, "", SSH).and(ask(http, GET, "200 OK")));
    let ready = begin.elapsed();
    container.expect_running(&["sshd", "apache2"]);
    let resident = proc::status(container.pid(), "VmRSS").unwrap();
    (ready, resident.trim_end_matches(" kB").parse().unwrap(), container.stop())
}

/// The table in tests/README.md.
#[test]
#[ignore = "figures of one machine: `make bench` prints them"]
fn side_by_side() {
    const LIVES: usize = 9;
    needs!(ready());
    let images = images();
    let mut lives = [vec![], vec![]];
    for _ in 0..LIVES {
        images.iter().zip(&mut lives).for_each(|(image, lives)| lives.push(life(image)));
    }
    let column = |image: usize| {
        let middle = |figure: &dyn Fn(&(Duration, u64, Duration)) -> u64| {
            let mut figures: Vec<_> = lives[image].iter().map(figure).collect();
            figures.sort_unstable();
            figures[LIVES / 2]
        };
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap();
        [
            images[image].size() / 1_000_000,
            middle(&|life| milliseconds(life.0)),
            middle(&|life| life.1),
            middle(&|life| milliseconds(life.2)),
        ]
    };
    let supervisord = column(0);
    let rsup = column(1);
    println!("{:44}{:>12}{:>12}", "median of 9 lives, in turns", "supervisord", "rsup");
    for (at, what) in [
        "image, MB on top of Debian",
        "docker start until both ports answer, ms",
        "memory of PID 1, kB resident",
        "docker stop, ms",
    ]
    .iter()
    .enumerate()
    {
        println!("{what:44}{:>12}{:>12}", supervisord[at], rsup[at]);
    }
}
