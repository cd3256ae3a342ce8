# A program that executes the lines of its FIFO. With the argument `hold`, it ignores SIGTERM.
if [ "$1" = hold ]; then trap '' TERM; fi
exec 3<>"$SUPERVISOR_PROCESS_NAME.fifo"
: >"$SUPERVISOR_PROCESS_NAME.ready"
while read -r line <&3; do eval "$line"; done
