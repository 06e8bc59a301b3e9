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
work=$(mktemp -d)

leave() {
    for master in "$work"/ssh-*; do
        ssh -o ControlPath="$master" -O exit host 2>/dev/null || :
    done
    rm -rf "$work"
    if [ "$(cat "$FLOWYARD_LOCK/pid" 2>/dev/null)" = "$$" ]; then
        rm -rf "$FLOWYARD_LOCK"
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

# Terraform does several things at once; members of a cluster are changed one by one.
lock() {
    until mkdir "$FLOWYARD_LOCK" 2>/dev/null; do
        holder=$(cat "$FLOWYARD_LOCK/pid" 2>/dev/null) || holder=
        # Whoever held it may have been killed.
        if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
            rm -rf "$FLOWYARD_LOCK"
        fi
        sleep 1
    done
    echo "$$" >"$FLOWYARD_LOCK/pid"
}

# Runs a command line on a host, as root; what it reads comes from our standard input. One connection serves all commands of a host.
on() {
    there=$1
    shift
    ssh -o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=15 -o ServerAliveCountMax=4 \
        -o ControlMaster=auto -o ControlPersist=60 -o ControlPath="$work/ssh-$there" ${FLOWYARD_SSH_CONFIG:+-F "$FLOWYARD_SSH_CONFIG"} -l "$FLOWYARD_USER" "$there" \
        "if [ \"\$(id -u)\" = 0 ]; then exec $*; else exec sudo -n $*; fi"
}

# Runs a verb of host.sh there. Its words have no character that a shell would mind: variables.tf sees to that.
host() {
    reached=$1
    shift
    on "$reached" sh "$remote" "$@"
}

# Brings host.sh itself to a host, puts it in its place when it is whole, and runs a verb of it.
send() {
    sent=$1
    shift
    on "$sent" "sh -c 'mkdir -p ${remote%/*} && cat >$remote.new && mv -f $remote.new $remote && sh $remote $*'" \
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
        sleep 1
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
    ask nodes >"$work/all" && grep -q "^$1 up true\$" "$work/all"
}
