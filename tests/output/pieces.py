"""A program of a rotation case: writes its output piece by piece.

Arguments: the directory of the case's log files, and the prefix of the case's own files. PREFIX.steps is a list of
runs; a run is a list of steps. Each start of the program takes the next run. At the end of the last run, the program
creates PREFIX.done and waits for a signal. If a wait takes too long, it writes the reason to PREFIX.failed.

It imports no large module, because many of these programs start at the same time.
"""

import fcntl
import os
import sys
import termios
import time

PATIENCE = 30
logs, prefix = sys.argv[1:]


def hold():
    while True:
        time.sleep(1000)


def until(what, fact):
    deadline = time.monotonic() + PATIENCE
    pause = 0.0005
    while not fact():
        if time.monotonic() > deadline:
            with open(prefix + ".failed", "w") as reason:
                reason.write(what)
            hold()
        # Many programs wait at the same time.
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def write(fd, data):
    while data:
        data = data[os.write(fd, data):]


def unread(fd):
    """The number of bytes in a pipe; a file or a device counts as read."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def size(path):
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def is_open(path):
    """Whether a process has a file open. " (deleted)" follows the path of a removed file."""
    for process in os.listdir("/proc"):
        directory = "/proc/%s/fd" % process
        try:
            links = [os.readlink("%s/%s" % (directory, fd)) for fd in os.listdir(directory)]
        except OSError:
            continue
        if path in links:
            return True
    return False


def step(word, *values):
    paths = [os.path.join(logs, str(value)) for value in values]
    if word in ("out", "err"):
        # The next piece is written when the reader has taken this one, so that a read never returns two pieces.
        fd = 1 if word == "out" else 2
        write(fd, values[0].encode("latin-1"))
        until("the reader takes the piece", lambda: unread(fd) == 0)
    elif word == "leave":
        # The program exits before the reader has taken the piece.
        write(1, values[0].encode("latin-1"))
    elif word == "size":
        what = "%s has %d bytes, not %s" % (values[0], values[1], size(paths[0]))
        until(what, lambda: size(paths[0]) == values[1])
    elif word == "closed":
        until("%s is closed" % values[0], lambda: not is_open(paths[0]))
    elif word == "remove":
        os.remove(paths[0])
    elif word == "rename":
        os.rename(*paths)
    elif word == "truncate":
        os.truncate(paths[0], 0)
    elif word == "append":
        with open(paths[0], "a") as file:
            file.write(values[1])
    elif word == "chmod":
        os.chmod(paths[0], values[1])
    else:
        raise ValueError(word)


with open(prefix + ".steps") as file:
    runs = eval(file.read())
with open(prefix + ".starts", "a+") as starts:
    starts.write("x")
    starts.flush()
    run = starts.tell() - 1
for words in runs[run]:
    step(*words)
if run == len(runs) - 1:
    open(prefix + ".done", "w").close()
    hold()
