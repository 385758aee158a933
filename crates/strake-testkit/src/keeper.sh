#!/bin/sh
# Runs one dockerd for as long as anybody holds a shared lock on $1/users, then stops it and removes everything.
#
# The kernel drops the lock of a killed test, so the daemon never outlives the test run.
# Arguments: the daemon's directory, the path of dockerd.
set -u
dir=$1 dockerd=$2

# No bridge and no packet filter: nothing of the machine's network is touched; builds run with --network none.
"$dockerd" --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/dockerd.pid" --host "unix://$dir/sock" \
    --bridge=none --iptables=false --ip-forward=false --ip-masq=false --storage-driver=overlay2 \
    </dev/null >"$dir/log" 2>&1 &
daemon=$!

# Either the last user leaves, or the daemon dies by itself and its users are told by their next request.
# The lock is kept until everything is gone, so that the next run finds either a daemon or none.
exec 9>"$dir/users"
flock --exclusive 9
kill "$daemon" 2>/dev/null
wait "$daemon"
umount -l "$dir/data/overlay2" 2>/dev/null
rm -rf "$dir/data" "$dir/exec" "$dir/sock" "$dir/dockerd.pid"
