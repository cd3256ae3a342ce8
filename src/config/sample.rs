//! The sample file, for `--echo-config`.

/// A file to start from. Every commented-out key has a valid value, so that removing its `;` is enough to set the key.
pub const SAMPLE: &str = "\
; A sample configuration for rsup. supervisord can read this file too.
; Comments begin with ; or #. Remove the ; before a key to set the key.

[supervisord]
nodaemon = true
;user = root                ; run rsup as this user
;loglevel = info            ; critical, error, warn, info, debug, trace or blather
;shutdown_on = fatal        ; when to stop everything and exit: never (default),
                            ; fatal (a program cannot be started), exited (a program has ended)
;stop_timeout = 9           ; seconds from the start of a stop until SIGKILL to everything
;output = prefix            ; direct (default), lines (no torn lines), prefix (NAME | LINE), json
;startup = ordered          ; wait until the programs of a lower priority are up; default: parallel

[program:web]
command = sleep infinity    ; no shell: for pipes and variables use sh -c '...'
;directory = /srv           ; the working directory of the program
;user = www-data            ; a name, a number, or user:group
;environment = PORT=8080,MODE=\"production\"
;autostart = true
;autorestart = unexpected   ; true, false, or unexpected: after an exit code not in exitcodes
;exitcodes = 0              ; the exit codes that are expected
;startsecs = 1              ; seconds until a started program is RUNNING; 0 for a short job
;startretries = 3           ; failed starts that are retried
;stopsignal = TERM
;stopwaitsecs = 10          ; seconds from stopsignal until SIGKILL
;priority = 999             ; lower numbers start first and stop last
;startup_wait = running     ; when it is up for startup=ordered: running, or exited for a job
;stdout_logfile = /dev/stdout
;stdout_logfile_maxbytes = 50MB ; rotate a log file of this size; 0: never
;stdout_logfile_backups = 10    ; the number of old log files
;redirect_stderr = true     ; write stderr to where stdout goes
;shutdown_on = exited       ; stop everything when this program has ended

;[group:all]
;programs = web

;[include]
;files = conf.d/*.conf
";
