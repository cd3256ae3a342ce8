#!/bin/sh
# Does the jobs of a list, one after the other. When redis has gone this ends, and rsup starts it again.
until redis-cli PING >/dev/null 2>&1; do sleep 0.1; done
echo "worker $WORKER waits for $QUEUE"
while job=$(redis-cli BLPOP "$QUEUE" 0 | tail -n 1) && [ -n "$job" ]; do
    echo "worker $WORKER does $job"
    redis-cli RPUSH done "$job by $WORKER" >/dev/null
done
exit 1
