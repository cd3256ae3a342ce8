//! Real servers: Debian's nginx and redis-server in one configuration file, with rsup as PID 1.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::{Rsup, SIGKILL, eventually, installed, kill, needs, pid_namespace, proc, root, rsup};

const CONF: &str = r#"
[supervisord]
nodaemon=true
user=root

[program:nginx]
command=nginx -p %(here)s -c %(here)s/nginx.conf -g "daemon off;"
priority=20
autorestart=true
stopsignal=QUIT
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
stderr_logfile=/dev/stderr
stderr_logfile_maxbytes=0

[program:redis]
command=redis-server --bind 127.0.0.1 --port %(ENV_REDIS_PORT)s --dir %(here)s/redis --save ""
user=redis
priority=10
autorestart=true
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
redirect_stderr=true
"#;

const NGINX: &str = r"
user www-data;
worker_processes 2;
pid nginx.pid;
error_log /dev/stderr;
events { worker_connections 64; }
http {
    access_log /dev/stdout;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server { listen 127.0.0.1:PORT; location / { return 200 'served by nginx'; } }
}
";

/// A TCP port without a listener.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// The answer of the server on this port to a request, if a server listens there.
fn answer(port: u16, question: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(question.as_bytes()).ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The two servers and their ports.
struct Servers {
    rsup: Rsup,
    nginx: u16,
    redis: u16,
}

impl Servers {
    fn start() -> Self {
        let nginx = free_port();
        let redis = free_port();
        let setup = rsup(CONF).file("nginx.conf", &NGINX.replace("PORT", &nginx.to_string()), 0o644);
        std::fs::create_dir(setup.path("redis")).unwrap();
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(setup.path("redis"), everybody).unwrap();
        let rsup = setup.env("REDIS_PORT", &redis.to_string()).pid_1().start();
        Self { rsup, nginx, redis }
    }

    fn expect_answers(&self) {
        eventually("nginx answers", || {
            answer(self.nginx, "GET / HTTP/1.0\r\n\r\n")?.ends_with("served by nginx").then_some(())
        });
        eventually("redis answers", || (answer(self.redis, "PING\r\n")? == "+PONG\r\n").then_some(()));
    }
}

#[test]
fn nginx_and_redis_are_restarted_and_leave_no_process() {
    needs!(root(), pid_namespace(), installed("nginx"), installed("redis-server"));
    let mut servers = Servers::start();
    servers.rsup.expect_all(&["success: nginx", "success: redis"]);
    servers.expect_answers();
    let redis = servers.rsup.pid_of("redis");
    let uid = proc::status(redis, "Uid").unwrap();
    assert!(!uid.starts_with("0\t"), "redis runs as its own user: {uid}");

    for program in ["nginx", "redis"] {
        let old = servers.rsup.pid_of(program);
        let old_group: Vec<_> =
            servers.rsup.tree().into_iter().filter(|process| process.group == old).collect();
        kill(old, SIGKILL);
        let rsup = &mut servers.rsup;
        rsup.expect(&format!("exited: {program} (terminated by SIGKILL; not expected)"));
        rsup.expect(&format!("spawned: '{program}'"));
        rsup.expect(&format!("success: {program}"));
        servers.expect_answers();
        let tree = servers.rsup.tree();
        let left = tree.iter().find(|process| old_group.iter().any(|old| old.pid == process.pid));
        assert!(left.is_none(), "of the old {program}: {left:?}");
        assert!(!tree.iter().any(proc::Process::is_zombie), "{tree:?}");
    }
    assert_eq!(servers.rsup.lines("exited:").len(), 2, "each was restarted once");
    assert_eq!(servers.rsup.lines("Address already in use"), [], "the port was free");
    let worker = servers.rsup.tree().into_iter().find(|process| {
        process.name == "nginx" && proc::status(process.pid, "Uid").is_some_and(|uid| !uid.starts_with("0\t"))
    });
    assert!(worker.is_some(), "nginx's workers run as www-data");

    let before = Instant::now();
    assert_eq!(servers.rsup.stop(), 0);
    assert!(before.elapsed() < Duration::from_secs(2), "the stop took {:?}", before.elapsed());
    servers.rsup.expect("received SIGTERM indicating exit request");
    let nginx = servers.rsup.expect("stopped: nginx (exit status 0)");
    let redis = servers.rsup.expect("stopped: redis (exit status 0)");
    assert!(redis.0 > nginx.0, "the higher priority stops first");
    let stdout = servers.rsup.read("stdout");
    assert!(stdout.contains("GET / HTTP/1.0") && stdout.contains("Ready to accept connections"), "{stdout}");
}
