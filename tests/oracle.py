"""Loads configuration files with the real supervisord. Reads one path per line from stdin, and prints one line of JSON
for each: the processes of the file, or supervisord's error message.

No program is started. Checks that depend on the machine are switched off: users, groups, directories and factories.
"""
import json
import shlex
import sys
import warnings

from supervisor import datatypes, options

UNCHANGED = str
MACHINE_CHECKS = ("name_to_uid", "name_to_gid", "existing_directory", "existing_dirpath")
for module in (datatypes, options):
    for name in MACHINE_CHECKS:
        if hasattr(module, name):
            setattr(module, name, UNCHANGED)
    if hasattr(module, "gid_for_uid"):
        module.gid_for_uid = lambda uid: None
options.platform.node = lambda: "node1"
warnings.simplefilter("ignore")


class Refused(Exception):
    pass


class Options(options.ServerOptions):
    def usage(self, message):
        raise Refused(message)

    def import_spec(self, spec):
        return lambda *arguments, **keys: None


def log_file(value):
    return "AUTO" if value is datatypes.Automatic else value


def restart(value):
    words = {datatypes.RestartUnconditionally: "true", datatypes.RestartWhenExitUnexpected: "unexpected"}
    return words.get(value, "false")


def words(command):
    try:
        return shlex.split(command)
    except ValueError:
        return None


KINDS = {"EventListenerPoolConfig": "eventlistener", "FastCGIGroupConfig": "fcgi"}
PLAIN = """name command directory umask priority autostart startsecs startretries exitcodes stopwaitsecs stopasgroup
killasgroup redirect_stderr""".split()


def process(group, config):
    shown = {key: getattr(config, key) for key in PLAIN}
    return dict(
        shown,
        group=group.name,
        kind=KINDS.get(type(group).__name__, "program"),
        argv=words(config.command),
        group_priority=group.priority,
        autorestart=restart(config.autorestart),
        stopsignal=int(config.stopsignal),
        user=config.uid,
        environment=dict(config.environment or {}),
        stdout_logfile=log_file(config.stdout_logfile),
        stderr_logfile=log_file(config.stderr_logfile),
    )


def load(path):
    loaded = Options()
    loaded.realize(["-c", path, "-n"], doc="", progname="supervisord")
    # supervisord (Supervisor and ProcessGroup) keeps the first of several groups with the same name, and the last of
    # several processes with the same name in a group.
    groups = {}
    for group in loaded.process_group_configs:
        groups.setdefault(group.name, group)
    for group in groups.values():
        named = {config.name: config for config in group.process_configs}
        yield from (process(group, config) for config in named.values())


for line in sys.stdin:
    try:
        answer = {"programs": list(load(line.rstrip("\n")))}
    except Refused as why:
        answer = {"error": str(why)}
    except Exception as why:  # supervisord itself would crash with this exception
        answer = {"error": "%s: %s" % (type(why).__name__, why)}
    print(json.dumps(answer), flush=True)
