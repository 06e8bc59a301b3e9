#!/bin/sh
# Takes one host out of its cluster: a node is emptied first, a coordinator hands its vote and its leadership over. What it had is
# removed from it; what the last coordinator of a cluster had stays there, under another name.
#
# From the environment, beside what lib.sh reads: FLOWYARD_ROLE, FLOWYARD_NAME, FLOWYARD_TARGET, FLOWYARD_ADDRESS, FLOWYARD_DRAIN (how long
# what runs there may go on).
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

# What the host says that it has: NUMBER CLUSTER of a coordinator, NAME CLUSTER of an agent; nothing where it has none. Fails where it is not
# reached. It is what counts: addresses in the list may have been changed since.
own() {
    send "$FLOWYARD_TARGET" facts >"$work/facts" 2>"$work/error" || return 1
    sed -n "s/^$FLOWYARD_ROLE //p" "$work/facts" | cut -d ' ' -f 1,2
}

# A host that is gone is no reason to keep its name: it is shut out of the cluster whatever it has. Of one that was not reached before, it is
# not known what it has, so nothing is removed from it.
clear_host() {
    if [ "$reachable" = yes ] && send "$FLOWYARD_TARGET" "$@"; then
        say "$FLOWYARD_NAME: is no $FLOWYARD_ROLE any more"
    else
        say "warning: $FLOWYARD_NAME ($FLOWYARD_TARGET) could not be cleared; it is shut out of the cluster, and what lies on it is still there"
    fi
}

remove_agent() {
    if ! ask members >/dev/null; then
        cat "$work/error" >&2
        fail "no coordinator answers, so $FLOWYARD_NAME was not emptied; nothing was changed"
    fi
    [ -z "$has" ] || [ "${has% *}" = "$FLOWYARD_NAME" ] ||
        fail "$FLOWYARD_TARGET is node ${has% *}, not $FLOWYARD_NAME; nothing was changed"
    say "$FLOWYARD_NAME: waits until nothing runs there, $FLOWYARD_DRAIN at most"
    ask drain "$FLOWYARD_NAME" "$FLOWYARD_DRAIN" || {
        cat "$work/error" >&2
        fail "$FLOWYARD_NAME was not emptied; nothing was removed"
    }
    clear_host clear agent
    # Its agent has stopped, or is shut out by this.
    patiently ask forget "$FLOWYARD_NAME" || {
        cat "$work/error" >&2
        fail "$FLOWYARD_NAME is still known to the cluster"
    }
}

# The lines of members that are, or are not, of this host: by the number that it has, or by its address where it has none to say.
ours() {
    awk -v number="${has% *}" -v at="$FLOWYARD_ADDRESS" -v want="$1" '((number == "" ? $2 == at : $1 == number) ? "yes" : "no") == want' "$work/now"
}

# Whether it is no coordinator any more, or was taken out just now. One that leads cannot be: it hands that over first.
is_out() {
    ask members >"$work/now" && [ -s "$work/now" ] || return 1
    read -r number _ _ leads _ <<END || return 0
$(ours yes)
END
    [ -n "$number" ] || return 0
    if [ "$leads" = true ]; then
        ask step-down || return 1
    fi
    ask remove-member "$number"
}

remove_coordinator() {
    if ! ask members >"$work/now" || [ ! -s "$work/now" ]; then
        cat "$work/error" >&2
        fail "no coordinator answers; nothing was changed. If the cluster is lost for good: terraform state rm the coordinators"
    fi
    [ -z "$has" ] || grep -q " ${has#* }\$" "$work/now" ||
        fail "$FLOWYARD_NAME has a coordinator of another cluster (${has#* }); nothing was changed"
    if [ -z "$(ours no)" ]; then
        ask nodes >"$work/nodes" || fail "$FLOWYARD_NAME does not say whether the cluster has nodes; nothing was changed"
        [ ! -s "$work/nodes" ] || fail "$FLOWYARD_NAME is the last coordinator, and the cluster has nodes; keep a coordinator that is there"
        # Without it there is no cluster. Its past is not ours to throw away.
        clear_host clear coordinator keep
        return
    fi
    patiently is_out || {
        cat "$work/error" >&2
        fail "$FLOWYARD_NAME is still a coordinator"
    }
    clear_host clear coordinator
}

lock
reachable=yes
has=$(own) || reachable=no
case $FLOWYARD_ROLE in
agent) remove_agent ;;
coordinator) remove_coordinator ;;
esac
