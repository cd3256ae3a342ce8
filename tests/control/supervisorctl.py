"""Runs the real supervisorctl many times without starting Python each time. Each line of stdin is a JSON object with
the arguments (`words`) and the input (`stdin`) of one run. Each line of stdout is a JSON object with the run's output
(`stdout`, `stderr`) and its exit status (`status`).
"""
import json
import os
import sys
import tempfile
import traceback

from supervisor import supervisorctl


def run(words):
    sys.argv = ["supervisorctl"] + words
    sys.stdin = open(0, closefd=False)
    try:
        supervisorctl.main()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


for line in sys.stdin:
    request = json.loads(line)
    streams = [tempfile.TemporaryFile() for _ in range(3)]
    streams[0].write(request["stdin"].encode())
    streams[0].seek(0)
    child = os.fork()
    if child == 0:
        for number, stream in enumerate(streams):
            os.dup2(stream.fileno(), number)
        run(request["words"])
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for stream in streams:
        stream.seek(0)
    stdout, stderr = (stream.read().decode() for stream in streams[1:])
    print(json.dumps({"stdout": stdout, "stderr": stderr, "status": status}), flush=True)
