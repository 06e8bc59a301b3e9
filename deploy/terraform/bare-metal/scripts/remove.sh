#!/bin/sh
# Takes one host out of its cluster: a node is emptied first, a coordinator hands its vote and its leadership over. What it had is
# removed from it; what the last coordinator of a cluster had stays there, under another name.
#
# From the environment, beside what lib.sh reads: FLOWYARD_ROLE, FLOWYARD_NAME, FLOWYARD_TARGET, FLOWYARD_ADDRESS, FLOWYARD_DRAIN (how long
# what runs there may go on).
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

# A host that is gone is no reason to keep its name: it is shut out of the cluster whatever it has.
clear_host() {
    if send "$FLOWYARD_TARGET" "$@"; then
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

# Whether it is no coordinator any more, or was taken out just now. One that leads cannot be: it hands that over first.
is_out() {
    ask members >"$work/now" && [ -s "$work/now" ] || return 1
    read -r number leads <<END || return 0
$(awk -v one="$FLOWYARD_ADDRESS" '$2 == one { print $1, $4 }' "$work/now")
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
    if ! awk -v one="$FLOWYARD_ADDRESS" '$2 != one { other = 1 } END { exit !other }' "$work/now"; then
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
case $FLOWYARD_ROLE in
agent) remove_agent ;;
coordinator) remove_coordinator ;;
esac
