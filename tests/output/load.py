"""A program that writes numbered lines.

Arguments: NAME STREAMS SIZE COUNT. STREAMS is "1", "2" or "12", the descriptors that get each line. A line has SIZE
bytes with its newline. COUNT is the number of lines; with 0, the program writes until the file "stop" exists. After the
last line it writes one line "NAME STREAM end COUNT" to each stream, creates NAME.done and waits for a signal.
"""

import os
import sys
import time

name, streams, size, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


def write(fd, data):
    while data:
        data = data[os.write(fd, data):]


number = 0
while number != count if count else not os.path.exists("stop"):
    for stream in streams:
        line = "%s %s %d " % (name, stream, number)
        # Quotes, backslashes and tabs have to be escaped in JSON.
        filler = '"\\\t' if number % 50 == 0 else chr(ord("a") + number % 26)
        line += (filler * size)[: size - len(line) - 2] + ".\n"
        write(int(stream), line.encode())
    number += 1
for stream in streams:
    write(int(stream), b"%s %s end %d\n" % (name.encode(), stream.encode(), number))
open(name + ".done", "w").close()
while True:
    time.sleep(1000)
