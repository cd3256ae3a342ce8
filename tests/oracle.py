"""What the real supervisord makes of configuration files: a path per line in, a line of JSON for each out.

Nothing is started. What depends on the machine and not on the file is not asked: users, directories, factories.
"""
import json
import shlex
import sys
import warnings

from supervisor import datatypes, options

SAME = str
LEFT_ALONE = ("name_to_uid", "name_to_gid", "existing_directory", "existing_dirpath")
for module in (datatypes, options):
    for name in LEFT_ALONE:
        if hasattr(module, name):
            setattr(module, name, SAME)
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
    # Of groups with one name the first stays, of processes in a group the last, as in Supervisor and ProcessGroup.
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
    except Exception as why:  # supervisord would die of it
        answer = {"error": "%s: %s" % (type(why).__name__, why)}
    print(json.dumps(answer), flush=True)
