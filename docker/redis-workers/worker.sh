#!/bin/sh
# Takes jobs from a list in redis, one after the other. When redis ends, this script ends too, and rsup restarts it.
until redis-cli PING >/dev/null 2>&1; do sleep 0.1; done
echo "worker $WORKER waits for $QUEUE"
while job=$(redis-cli BLPOP "$QUEUE" 0 | tail -n 1) && [ -n "$job" ]; do
    echo "worker $WORKER does $job"
    redis-cli RPUSH done "$job by $WORKER" >/dev/null
done
exit 1
