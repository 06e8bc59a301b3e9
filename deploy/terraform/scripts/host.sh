#!/bin/sh
# What is done on one host, as root: `host.sh VERB ARGUMENT...`. Whoever calls it knows the other hosts; it knows this one only.
#
# Every verb may be run again: what is as it should be is left alone. A token comes on standard input and leaves this script only
# into the standard input of fctl; it is in no argument, file, variable or message.
set -eu
umask 022

PROGRAM=/usr/local/bin/fctl
OWN=/usr/local/lib/flowyard
UNITS=/etc/systemd/system
FOLDERS=/var/lib/flowyard
# The owner's door of the coordinator that runs here, whatever root has configured for itself.
export FLOWYARD_ENDPOINT="unix://$FOLDERS/coordinator/api.sock"

fail() {
    printf '%s: %s\n' "$(uname -n)" "$*" >&2
    exit 1
}

# A field of a file that fctl wrote: of JSON, or of TOML.
field() {
    sed -n "s/^\\(.*[{,]\\)\\{0,1\\} *\"\\{0,1\\}$2\"\\{0,1\\} *[:=] *\"\\{0,1\\}\\([^\",]*\\).*/\\2/p" "$1" | head -n 1
}

# Size and time of the program, by which it is told whether it is still the one that was placed.
looks() {
    stat -c '%s %Y %i' "$PROGRAM"
}

# The checksum of the program that is here; it is read again only where somebody else has put it there.
checksum() {
    if [ "$(sed 1d "$OWN/placed" 2>/dev/null)" = "$(looks)" ]; then
        sed -n 1p "$OWN/placed"
    else
        sha256sum <"$PROGRAM" | cut -d ' ' -f 1
    fi
}

# What is here: `program SHA256`, `coordinator NUMBER CLUSTER CALLED EPOCH ADDRESS`, `agent NAME CLUSTER`, a line each where there is one.
facts() {
    if [ -f "$PROGRAM" ]; then
        printf 'program %s\n' "$(checksum)"
    fi
    file=$FOLDERS/coordinator/coordinator.toml
    if [ -f "$file" ]; then
        printf 'coordinator %s %s %s %s %s\n' "$(field "$file" replica)" "$(field "$file" cluster)" "$(field "$file" name)" \
            "$(field "$file" epoch)" "$(field "$file" address)"
    fi
    file=$FOLDERS/agent/member.json
    if [ -f "$file" ]; then
        printf 'agent %s %s\n' "$(field "$file" name)" "$(field "$file" cluster)"
    fi
}

# Takes the program from standard input; it counts only when it is whole. What runs is not disturbed. The program before is kept if it was
# well: of several that were not, one after the other, none takes the place of the one that is gone back to.
place() {
    if [ -f "$PROGRAM" ] && [ "$(checksum)" = "$1" ]; then
        # Already, as the other of two roles of this host.
        cat >/dev/null
        return 0
    fi
    new=$(dirname "$PROGRAM")/.fctl.new
    mkdir -p "$(dirname "$PROGRAM")"
    cat >"$new"
    here=$(sha256sum <"$new" | cut -d ' ' -f 1)
    [ "$here" = "$1" ] || fail "the program arrived damaged: $here instead of $1"
    chmod 755 "$new"
    "$new" --version >/dev/null || fail "the program does not run on this machine; was it built for it?"
    if [ -f "$PROGRAM" ] && [ "$(cat "$OWN/well" 2>/dev/null || checksum)" = "$(checksum)" ]; then
        ln -f "$PROGRAM" "$PROGRAM.previous"
    fi
    mv -f "$new" "$PROGRAM"
    printf '%s\n%s\n' "$1" "$(looks)" >"$OWN/placed"
}

# The program that is here was seen to do its work.
well() {
    if [ "$(cat "$OWN/well" 2>/dev/null)" != "$(checksum)" ]; then
        checksum >"$OWN/well"
    fi
}

# What fctl tells people to do next is done by this script; what went wrong is told.
quietly() {
    if ! "$PROGRAM" "$@" >/dev/null 2>"$OWN/said"; then
        cat "$OWN/said" >&2
        exit 1
    fi
    rm -f "$OWN/said"
}

# A coordinator whose making was cut off has keys and no settings, which are written last: it has never run. It is kept beside.
set_unfinished_aside() {
    if [ -f "$FOLDERS/coordinator/authority.pem" ]; then
        aside=$FOLDERS/coordinator.unfinished-$(date -u +%Y%m%dT%H%M%SZ)
        mv "$FOLDERS/coordinator" "$aside"
        printf '%s: a coordinator that was not made to its end is in %s\n' "$(uname -n)" "$aside"
    fi
}

form() {
    [ -f "$FOLDERS/coordinator/coordinator.toml" ] && return 0
    set_unfinished_aside
    quietly coordinator init --cluster "$1" --address "$2"
}

join_coordinator() {
    [ -f "$FOLDERS/coordinator/coordinator.toml" ] && return 0
    set_unfinished_aside
    quietly coordinator join - --address "$1"
}

join_agent() {
    [ -f "$FOLDERS/agent/member.json" ] && return 0
    quietly agent join - --name "$1"
}

# Takes the agent's settings from standard input. Where they are others than before, `run` starts the agent again.
settings() {
    file=$FOLDERS/agent/config.toml
    cat >"$OWN/config.toml.new"
    if ! cmp -s "$OWN/config.toml.new" "$file"; then
        touch "$OWN/restart-agent"
        mv -f "$OWN/config.toml.new" "$file"
    fi
    rm -f "$OWN/config.toml.new"
}

pid_of() {
    systemctl show --property=MainPID --value "flowyard-$1.service"
}

# Whether a service runs the program that is installed.
is_current() {
    pid=$(pid_of "$1")
    [ "${pid:-0}" != 0 ] && [ "/proc/$pid/exe" -ef "$PROGRAM" ]
}

# Whether `run` would stop a service, and start it again.
restarts() {
    if systemctl is-active --quiet "flowyard-$1.service" && ! { is_current "$1" && [ ! -e "$OWN/restart-$1" ]; }; then
        echo yes
    fi
}

# Has a service run with the program, the unit and the settings that are here. Says `started` if it had to be started.
run() {
    unit=flowyard-$1.service
    mkdir -p "$UNITS"
    "$PROGRAM" install "$1" --print >"$OWN/unit.new"
    if ! cmp -s "$OWN/unit.new" "$UNITS/$unit"; then
        touch "$OWN/restart-$1"
        cp -f "$OWN/unit.new" "$UNITS/$unit"
        systemctl daemon-reload
    fi
    rm -f "$OWN/unit.new"
    systemctl enable --quiet "$unit"
    if [ ! -e "$OWN/restart-$1" ] && is_current "$1"; then
        return 0
    fi
    systemctl restart "$unit" || fail "$unit does not start; see: journalctl -u $unit"
    is_current "$1" || fail "$unit does not stay up; see: journalctl -u $unit"
    rm -f "$OWN/restart-$1"
    echo started
}

# A token that lets one host in, within ten minutes. It is all that standard output gets.
token() {
    "$PROGRAM" -o json token create --role "$1" --ttl 10m | sed -n 's/.*"text":"\([^"]*\)".*/\1/p'
}

# The coordinators: NUMBER ADDRESS VOTES LEADS LAG ANSWERS CLUSTER, a line each. Fails where nobody answers: that is not the same as none.
members() {
    told=$("$PROGRAM" -o json cluster status) || return 1
    cluster=$(printf '%s\n' "$told" | sed -n 's/^{"cluster":"\([^"]*\)".*/\1/p')
    printf '%s\n' "$told" | sed 's/{"coordinator":/\n&/g' | sed -n \
        's/^{"coordinator":\([0-9]*\),"address":"\([^"]*\)".*"votes":\([a-z]*\),"leads":\([a-z]*\),"lag_entries":\([^,]*\),.*"about":\([n{]\).*/\1 \2 \3 \4 \5 \6/p' |
        sed "s/n\$/false $cluster/; s/{\$/true $cluster/"
}

# Why a node is closed that is about to be removed.
LEAVES='it is removed'

# The nodes: NAME HEALTH CONNECTED STAYS, a line each; the last says `leaves` where a removal was begun, `closed` where somebody else had
# closed it, and `stays` otherwise.
nodes() {
    told=$("$PROGRAM" -o json nodes) || return 1
    printf '%s\n' "$told" | sed 's/{"node":/\n&/g' | sed -n \
        -e 's/^{"node":[^,]*,"name":"\([^"]*\)".*"health":"\([a-z]*\)".*"reason":"'"$LEAVES"'".*"connected":\([a-z]*\),.*/\1 \2 \3 leaves/p' -e t \
        -e 's/^{"node":[^,]*,"name":"\([^"]*\)".*"health":"\([a-z]*\)".*"closed":{.*"connected":\([a-z]*\),.*/\1 \2 \3 closed/p' -e t \
        -e 's/^{"node":[^,]*,"name":"\([^"]*\)".*"health":"\([a-z]*\)".*"connected":\([a-z]*\),.*/\1 \2 \3 stays/p'
}

# What is said of one node, if there is one of this name.
node() {
    known=$(nodes) || return 1
    printf '%s\n' "$known" | awk -v one="$1" '$1 == one'
}

# Empties a node, if there is one of this name.
drain() {
    known=$(node "$1") || return 1
    reason=$LEAVES
    case $known in
    '') return 0 ;;
    # It is not ours to open again.
    *' closed') reason="$LEAVES, and was closed before" ;;
    esac
    "$PROGRAM" node drain "$1" --deadline "$2" --reason "$reason" --wait
}

# Opens a node again that was to be removed, and stays after all. One that somebody else has closed stays so.
reopen() {
    known=$(node "$1") || return 1
    case $known in
    *' leaves') "$PROGRAM" node uncordon "$1" ;;
    esac
}

# Forgets a node, and shuts out whoever has its key.
forget() {
    known=$(node "$1") || return 1
    if [ -n "$known" ]; then
        "$PROGRAM" node remove "$1" || return 1
    fi
    "$PROGRAM" cluster revoke "agent/$1" >/dev/null
}

step_down() {
    "$PROGRAM" cluster step-down
}

remove_member() {
    "$PROGRAM" cluster remove "$1"
}

stop() {
    unit=flowyard-$1.service
    if [ -f "$UNITS/$unit" ]; then
        systemctl disable --quiet --now "$unit"
        rm -f "$UNITS/$unit"
        systemctl daemon-reload
    fi
}

# The launcher outlives its agent, as it should; here it is asked to leave too.
dismiss_launcher() {
    tries=0
    while [ "$tries" -lt 50 ]; do
        left=
        for process in /proc/[0-9]*; do
            line=$(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) || continue
            case $line in
            *" $FOLDERS/agent/launcher "*)
                left=yes
                if [ "$tries" = 0 ]; then
                    kill -TERM "${process#/proc/}" 2>/dev/null || :
                fi
                ;;
            esac
        done
        [ -n "$left" ] || return 0
        tries=$((tries + 1))
        sleep 0.2
    done
    fail "something of the agent still runs; its folder $FOLDERS/agent is left alone"
}

# Takes a service off this host with all it kept; with `keep`, a coordinator's folder stays beside, under another name.
clear() {
    stop "$1"
    case $1 in
    agent)
        rm -f "$FOLDERS/agent/credential.pem" "$FOLDERS/agent/member.json"
        dismiss_launcher
        ;;
    esac
    if [ "${2:-}" = keep ] && [ -d "$FOLDERS/$1" ]; then
        aside=$FOLDERS/$1.removed-$(date -u +%Y%m%dT%H%M%SZ)
        mv "$FOLDERS/$1" "$aside"
        printf '%s: what the coordinator kept is in %s\n' "$(uname -n)" "$aside"
    else
        rm -rf "${FOLDERS:?}/$1"
    fi
    if [ ! -e "$UNITS/flowyard-agent.service" ] && [ ! -e "$UNITS/flowyard-coordinator.service" ]; then
        rm -rf "$PROGRAM" "$PROGRAM.previous" "$OWN"
    fi
}

verb=$1
shift
mkdir -p "$OWN"
case $verb in
facts | place | well | form | settings | pid_of | restarts | run | token | members | nodes | drain | reopen | forget | stop | clear)
    "$verb" "$@"
    ;;
join-coordinator) join_coordinator "$@" ;;
join-agent) join_agent "$@" ;;
step-down) step_down ;;
remove-member) remove_member "$@" ;;
*) fail "host.sh: there is no verb $verb" ;;
esac
