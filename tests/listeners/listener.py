"""An event listener of the differential test. It records what it receives, and answers.

Arguments: `auto` or `manual`, and then the answers to the first events; the last answer is repeated.
- `auto`: it writes READY at once, and behind each answer, in the same write.
- `manual`: it writes only what the commands in its FIFO say.

Each start records into a file of its own, NAME.1.got, NAME.2.got and so on, whose bytes are those from its stdin. If there
is a FIFO NAME.fifo, each line of the FIFO is a command. The file NAME.auto shows that it answers all events. It imports no
large module, because many listeners start at the same time.
"""

import os
import select
import sys


def unescaped(text):
    return text.encode().decode("unicode_escape").encode("latin-1")


def is_whole(event):
    """Whether this is a header with its payload. supervisord counts characters, so there may be more bytes."""
    header, newline, payload = event.partition(b"\n")
    return bool(newline) and len(payload) >= int(header.rpartition(b" len:")[2])


def announce():
    open("%s.auto" % name, "w").close()


def start_answering():
    global auto
    auto = True
    os.write(1, b"READY\n")


def obey(line):
    word, _, text = line.decode().partition(" ")
    if word in ("write", "err"):
        os.write(1 if word == "write" else 2, unescaped(text))
    elif word == "auto":
        announce()
        start_answering()
    elif word == "close":
        watched.remove(0)
        os.close(0)
    elif word == "exit":
        os._exit(int(text))
    else:
        raise ValueError(line)


name = os.environ["SUPERVISOR_PROCESS_NAME"]
if sys.argv[1] == "auto":
    announce()
start = 1
while os.path.exists("%s.%d.got" % (name, start)):
    start += 1
record = open("%s.%d.got" % (name, start), "wb", 0)
auto = False
answers = [unescaped(answer) for answer in sys.argv[2:]] or [b"RESULT 2\nOK"]
watched = [0]
if os.path.exists("%s.fifo" % name):
    watched.append(os.open("%s.fifo" % name, os.O_RDWR))
if sys.argv[1] == "auto":
    start_answering()
received = b""
while True:
    for fd in select.select(watched, [], [])[0]:
        data = os.read(fd, 1 << 20)
        if fd != 0:
            for line in data.splitlines():
                obey(line)
        elif not data:
            watched.remove(0)
        elif not auto:
            record.write(data)
        else:
            received += data
            if is_whole(received):
                # The answer is written before the record, so a test that finds the event in the record knows that the
                # answer is in the pipe.
                os.write(1, answers.pop(0) + b"READY\n" if len(answers) > 1 else answers[0] + b"READY\n")
                record.write(received)
                received = b""
