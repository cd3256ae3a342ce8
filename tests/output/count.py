"""A program that writes consecutive numbers, so that every byte of its output has one possible place.

Arguments: NAME, STREAMS and RECORDS, then any of the words below. STREAMS is "1", "2" or "12", the descriptors that get
the same output. A record is a number of 15 digits and a newline. One write has RECORDS records; after each write to all
streams, the file NAME.count has the number of bytes written to each. The program writes until the file "stop" exists,
creates NAME.done and waits for a signal.

stubborn: ignores SIGTERM and never looks for the file "stop".
"""

import os
import signal
import sys
import time

name, streams, records, words = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
stubborn = "stubborn" in words
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
count = os.open(name + ".count", os.O_WRONLY | os.O_CREAT, 0o644)
number = written = 0
while stubborn or not os.path.exists("stop"):
    data = b"".join(b"%015d\n" % n for n in range(number, number + records))
    number += records
    for stream in streams:
        rest = data
        while rest:
            rest = rest[os.write(int(stream), rest):]
    written += len(data)
    os.pwrite(count, b"%020d" % written, 0)
open(name + ".done", "w").close()
while True:
    time.sleep(1000)
