#!/bin/sh
# Brings every host to what is wanted of it: program, membership, settings, service. One host after the other; the first that is not
# well afterwards ends it, and the rest stay as they are. What is as it should be is left alone.
#
# From the environment, beside what lib.sh reads: FLOWYARD_CLUSTER, FLOWYARD_PROGRAM (a file here), FLOWYARD_SHA256 (of it), FLOWYARD_HOSTS
# (a line each: ROLE NAME TARGET ADDRESS SETTINGS, the last in base64; coordinators before agents).
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

# Every host is reached, and what is on it is known, before anything is changed.
look_at_all() {
    while read -r role name target _; do
        send "$target" facts >"$work/$name.facts" ||
            fail "$name cannot be reached: ssh to $FLOWYARD_USER@$target must work, with a known host key and without a password"
        grep "^$role " "$work/$name.facts" >>"$work/members" || :
    done <<END
$FLOWYARD_HOSTS
END
    touch "$work/members"
    clusters=$(cut -d ' ' -f 3 "$work/members" | sort -u)
    case $clusters in
    *"
"*) fail "these hosts belong to several clusters: $(echo "$clusters" | tr '\n' ' ')" ;;
    esac
}

has() {
    grep -q "^$1" "$work/$2.facts"
}

place() {
    if ! has "program $FLOWYARD_SHA256\$" "$1"; then
        say "$1: the program"
        host "$2" place "$FLOWYARD_SHA256" <"$FLOWYARD_PROGRAM"
    fi
}

# A token goes from the coordinator that makes it straight to the host that uses it; it lies nowhere on the way.
let_in() {
    role=$1 name=$2 target=$3
    shift 3
    while read -r _ via _; do
        if host "$via" members </dev/null >/dev/null 2>&1; then
            host "$via" token "$role" </dev/null | host "$target" "join-$role" "$@" ||
                fail "$name was not let in"
            return
        fi
    done <<END
$FLOWYARD_COORDINATORS
END
    fail "no coordinator answers that could let $name in"
}

# The service of a host, and that it is well and stays so.
run() {
    role=$1 name=$2 target=$3
    shift 3
    if [ "$role" = coordinator ] && [ -n "$(host "$target" restarts "$role" </dev/null)" ]; then
        # Stopping one more than what is down already could stop the cluster.
        all_well_without "$address" >&2 || fail "$name was left alone, as another coordinator is not well"
    fi
    host "$target" run "$role" </dev/null >"$work/started" || fail "$name was not started; the hosts after it are left as they were"
    patiently "$@" || fail "$name is not well $FLOWYARD_PATIENCE seconds after its start; the hosts after it are left as they were.
The program before is $name:/usr/local/bin/fctl.previous; look there with: journalctl -u flowyard-$role"
    if [ -s "$work/started" ]; then
        started=$(host "$target" pid_of "$role" </dev/null)
        sleep "$FLOWYARD_SETTLE"
        "$@" && [ "$(host "$target" pid_of "$role" </dev/null)" = "$started" ] ||
            fail "$name was well and is not any more; the hosts after it are left as they were"
    fi
    say "$name: runs as $role, and is well"
}

coordinator() {
    name=$1 target=$2 address=$3
    place "$name" "$target"
    if ! has coordinator "$name"; then
        if [ -s "$work/members" ]; then
            let_in coordinator "$name" "$target" "$address"
        else
            say "$name: forms cluster $FLOWYARD_CLUSTER"
            host "$target" form "$FLOWYARD_CLUSTER" "$address" </dev/null
        fi
        host "$target" facts </dev/null | grep '^coordinator ' >>"$work/members"
    fi
    run coordinator "$name" "$target" all_well_with "$address"
}

agent() {
    name=$1 target=$2
    place "$name" "$target"
    if has agent "$name"; then
        has "agent $name " "$name" || fail "$name is called otherwise in the cluster: $(grep '^agent ' "$work/$name.facts")"
    else
        let_in agent "$name" "$target" "$name"
    fi
    printf '%s' "$3" | base64 -d | host "$target" settings
    run agent "$name" "$target" node_is_up "$name"
}

# Coordinators that are there before those that come, so that these meet a cluster of their own release; then the agents.
walk() {
    while read -r role name target address settings; do
        case $role in
        "$1") ;;
        *) continue ;;
        esac
        case $2 in
        there) has "$role" "$name" || continue ;;
        new) ! has "$role" "$name" || continue ;;
        esac
        case $role in
        coordinator) coordinator "$name" "$target" "$address" ;;
        agent) agent "$name" "$target" "$settings" ;;
        esac
    done <<END
$FLOWYARD_HOSTS
END
}

# A coordinator that is a member and stands still (its program did not start, or we were ended before it was started) is started before
# anything else: that takes nothing from the cluster, and whoever asks that all are well would wait for it.
start_what_stands_still() {
    while read -r role name target _; do
        [ "$role" = coordinator ] && has coordinator "$name" || continue
        pid=$(host "$target" pid_of coordinator </dev/null) || pid=0
        [ "${pid:-0}" = 0 ] || continue
        place "$name" "$target"
        say "$name: its coordinator stands still, and is started first"
        host "$target" run coordinator </dev/null >/dev/null ||
            fail "$name was not started; the hosts after it are left as they were"
        host "$target" facts </dev/null >"$work/$name.facts"
    done <<END
$FLOWYARD_HOSTS
END
}

[ -f "$FLOWYARD_PROGRAM" ] || fail "there is no $FLOWYARD_PROGRAM"
lock
look_at_all
start_what_stands_still
walk coordinator there
walk coordinator new
walk agent all
