#!/usr/bin/env bash
# Runs a script that has "hosts" a, b and c: `on NAME COMMAND...` runs a command there. Each has its own address
# (10.9.0.1 to 3), name (host-a), process table, /tmp and /dev/shm; all else of the file system is this computer's. When
# the script ends, so does every process of theirs. Needs Linux and ip(8), and no root.
#
#   [HOSTS="a b ..."] [LIMIT=SECONDS] bash tests/parity/hosts.sh SCRIPT
set -eu
if [ -z "${UVMP_HOSTS:-}" ]; then
    export UVMP_HOSTS=1
    exec unshare --map-root-user --net --mount --pid --fork --kill-child --mount-proc bash "$0" "$@"
fi

ip link set lo up
ip link add bridge type bridge
ip link set bridge up
declare -A PROCESS
number=0
for name in ${HOSTS:-a b c}; do
    number=$((number + 1))
    unshare --net --uts --mount --pid --fork --mount-proc bash -c "
        hostname host-$name
        mount -t tmpfs none /tmp
        mount -t tmpfs none /dev/shm
        touch /tmp/ready
        exec sleep infinity" &
    for _ in $(seq 200); do
        init=$(tr -d ' ' <"/proc/$!/task/$!/children" || true)
        [ -n "$init" ] && [ -e "/proc/$init/root/tmp/ready" ] && break
        sleep 0.05
    done
    rm "/proc/$init/root/tmp/ready"
    PROCESS[$name]=$init
    ip link add "to-$name" type veth peer name eth0 netns "$init"
    ip link set "to-$name" master bridge up
    nsenter --target "$init" --net bash -c "
        ip link set lo up
        ip link set eth0 up
        ip address add 10.9.0.$number/24 dev eth0
        ip route add default via 10.9.0.254"
done

on() {
    local host=$1
    shift
    nsenter --target "${PROCESS[$host]}" --net --uts --mount --pid --wd="$PWD" timeout "${LIMIT:-120}" "$@"
}

set +e
. "$1"
