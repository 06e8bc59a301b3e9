# Read in by the other scripts here, which run where terraform runs: hosts reached by OpenSSH, one script at a time.
#
# From the environment: FLOWYARD_USER (who logs in; root, or somebody whom sudo lets be root without a password), FLOWYARD_SSH_CONFIG (an
# OpenSSH configuration, or nothing), FLOWYARD_COORDINATORS (a line each: NAME TARGET ADDRESS), FLOWYARD_PATIENCE (seconds that a host
# may take to be well), FLOWYARD_SETTLE (seconds after which it must still be), FLOWYARD_LOCK.
# shellcheck shell=sh
set -eu
umask 077

here=$(dirname "$0")
remote=/usr/local/lib/flowyard/host.sh
# Where a path may be long, as that of TMPDIR, there would be no room for the names of ssh's sockets.
work=$(mktemp -d /tmp/flowyard.XXXXXX)
# Whoever holds it: a link that has a process id for its target, so that it is made in one step with who made it.
held=$FLOWYARD_LOCK.pid

leave() {
    for master in "$work"/ssh-*; do
        ssh -o ControlPath="$master" -O exit host 2>/dev/null || :
    done
    rm -rf "$work"
    if [ "$(readlink "$held")" = "$$" ]; then
        rm -f "$held"
    fi
}
trap leave EXIT
trap 'exit 130' INT TERM

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Between two looks at something that is waited for.
pause() {
    sleep 0.2
}

# Takes away the lock of a process that is not there any more. One at a time does, and looks again: in between, it may have been taken
# away and made anew by somebody who lives.
break_lock() {
    mkdir "$held.breaking" 2>/dev/null || return 0
    if [ "$(readlink "$held")" = "$1" ]; then
        rm -f "$held"
    fi
    rmdir "$held.breaking"
}

# Whether a process is there, whoever runs it.
lives() {
    kill -0 "$1" 2>/dev/null || ps -p "$1" >/dev/null 2>&1
}

# Terraform does several things at once; members of a cluster are changed one by one.
lock() {
    tries=0
    until ln -s "$$" "$held" 2>/dev/null; do
        holder=$(readlink "$held") || {
            [ -w "$(dirname "$held")" ] || fail "$held cannot be made"
            continue
        }
        lives "$holder" || break_lock "$holder"
        tries=$((tries + 1))
        if [ "$tries" = 10 ]; then
            say "waits for process $holder, which changes this cluster too (if it is none of Terraform's: rm -rf $held*)"
        fi
        pause
    done
}

# Runs a command line on a host, as root; what it reads comes from our standard input. One connection serves all commands of a host.
on() {
    there=$1
    shift
    ssh -o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=15 -o ServerAliveCountMax=4 \
        -o ControlMaster=auto -o ControlPersist=60 -o ControlPath="$work/ssh-$there" ${FLOWYARD_SSH_CONFIG:+-F "$FLOWYARD_SSH_CONFIG"} -l "$FLOWYARD_USER" "$there" \
        "if [ \"\$(id -u)\" = 0 ]; then exec $*; else exec sudo -n $*; fi"
}

# Runs a verb of host.sh there. Its words have no quote: variables.tf sees to that.
host() {
    reached=$1
    shift
    line="sh $remote"
    for word in "$@"; do
        line="$line '$word'"
    done
    on "$reached" "$line"
}

# Brings host.sh itself to a host, puts it in its place when it is whole, and runs a verb of it.
send() {
    sent=$1
    shift
    on "$sent" "sh -c 'mkdir -p ${remote%/*} && cat >$remote.\$\$ && mv -f $remote.\$\$ $remote && sh $remote $*'" \
        <"$here/../../scripts/host.sh"
}

# Asks the first coordinator that answers; what it said goes to standard output.
ask() {
    while read -r _ asked _; do
        if host "$asked" "$@" </dev/null >"$work/said" 2>"$work/error"; then
            cat "$work/said"
            return 0
        fi
    done <<END
$FLOWYARD_COORDINATORS
END
    return 1
}

# Waits until something holds, as long as the patience allows.
patiently() {
    ends=$(($(date +%s) + FLOWYARD_PATIENCE))
    until "$@"; do
        [ "$(date +%s)" -lt "$ends" ] || return 1
        pause
    done
}

# Whether all coordinators vote, answer and keep up, one leads, and this one is among them; without, but for this one.
all_well_with() {
    ask members >"$work/all" || return 1
    awk -v one="$1" '
        $3 != "true" || $6 != "true" || $5 == "null" || $5 > 1000 { bad = 1 }
        $4 == "true" { leads = 1 }
        $2 == one { found = 1 }
        END { exit !(found && leads && !bad) }' "$work/all"
}

all_well_without() {
    ask members >"$work/all" || {
        echo "no coordinator says how the others are"
        return 1
    }
    awk -v one="$1" '
        $2 != one && ($3 != "true" || $6 != "true") { printf "coordinator %s at %s does not vote or answer\n", $1, $2; bad = 1 }
        END { exit bad || NR == 0 }' "$work/all"
}

node_is_up() {
    ask nodes >"$work/all" &&
        awk -v one="$1" '$1 == one && $2 == "up" && $3 == "true" { up = 1 } END { exit !up }' "$work/all"
}
