//! `--echo-config`.

/// What `--echo-config` prints: a file to begin with.
pub const SAMPLE: &str = "\
; A configuration for rsup; supervisord reads it too. Comments begin with ; or #.

[supervisord]
nodaemon = true
;user = root                ; whom rsup runs as
;loglevel = info            ; critical error warn info debug trace blather
;shutdown_on = fatal        ; leave when a program: never (the default), fatal (cannot start), exited
;stop_timeout = 9           ; seconds for the whole stop, then SIGKILL

[program:web]
command = sleep infinity    ; no shell: for pipes and variables write sh -c '...'
;directory = /srv           ; change to this directory first
;user = www-data            ; a name, a number, or user:group
;environment = PORT=8080,MODE=\"production\"
;autostart = true
;autorestart = unexpected   ; true false unexpected
;exitcodes = 0              ; the expected ones
;startsecs = 1              ; up for so long means RUNNING; 0 for a job that may end at once
;startretries = 3
;stopsignal = TERM
;stopwaitsecs = 10          ; then SIGKILL
;priority = 999             ; lower starts first and stops last
;stdout_logfile = /dev/stdout
;redirect_stderr = true     ; stderr goes where stdout goes
;shutdown_on = exited       ; this program's end ends the container

;[group:all]
;programs = web

;[include]
;files = conf.d/*.conf
";
