#!/bin/sh
# Brings every host to what is wanted of it: program, membership, settings, service. One host after the other; the first that is not
# well afterwards ends it, and the rest stay as they are. What is as it should be is left alone.
#
# From the environment, beside what lib.sh reads: FLOWYARD_CLUSTER, FLOWYARD_PROGRAM (a file here), FLOWYARD_SHA256 (of it),
# FLOWYARD_HOSTS_0, FLOWYARD_HOSTS_1 and so on (a line each: ROLE NAME TARGET ADDRESS LABELS, the last a line of TOML in base64;
# coordinators before agents), FLOWYARD_SETTINGS (what else is below [agent] of all agents).
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

# How many hosts are looked at at the same time.
AT_ONCE=20

# One variable holds no more than 128 KiB, so the hosts come in several.
wanted_hosts() {
    number=0
    while eval "some=\${FLOWYARD_HOSTS_$number:-}" && [ -n "$some" ]; do
        printf '%s\n' "$some"
        # Programs that are started have no use for them.
        unset "FLOWYARD_HOSTS_$number"
        number=$((number + 1))
    done
}

# Every host is reached, and what is on it is known, before anything is changed.
look_at_all() {
    looked=0
    while read -r _ name target _; do
        {
            send "$target" facts >"$work/$name.facts" 2>"$work/$name.error" || rm -f "$work/$name.facts"
        } &
        looked=$((looked + 1))
        [ $((looked % AT_ONCE)) != 0 ] || wait
    done <"$work/hosts"
    wait
    while read -r role name target _; do
        [ -f "$work/$name.facts" ] || {
            cat "$work/$name.error" >&2
            fail "$name cannot be reached: ssh to $FLOWYARD_USER@$target must work, with a known host key and without a password"
        }
        sed -n "s/^$role /$role $name /p" "$work/$name.facts" >>"$work/members"
    done <"$work/hosts"
}

# Whether what is on the hosts is of the cluster that is wanted, or of none. There is one if a coordinator of it is there. One of an earlier
# epoch has the history before the cluster was restored or went on alone: with another one like it, it would go on with that.
look_whose_they_are() {
    awk '$1 == "coordinator" { print $4, $5 }' "$work/members" | sort -u >"$work/clusters"
    epoch=$(awk '$1 == "coordinator" && $6 > newest { newest = $6 } END { print newest + 0 }' "$work/members")
    while read -r role name _ cluster called of_epoch address; do
        clear="if nothing of it is needed any more, on $name: sh $remote clear $role"
        [ "$role" = agent ] || [ "$called" = "$FLOWYARD_CLUSTER" ] ||
            fail "$name has a coordinator of a cluster that is called $called, not $FLOWYARD_CLUSTER; $clear keep"
        [ "$(wc -l <"$work/clusters")" -le 1 ] ||
            fail "these hosts have coordinators of several clusters called $FLOWYARD_CLUSTER: $(awk '$1 == "coordinator" { printf "%s (%s) ", $2, $4 }' "$work/members")"
        grep -q "^$cluster " "$work/clusters" ||
            fail "$name is a node of another cluster ($cluster), of which none of these hosts is a coordinator; $clear"
        [ "$role" = coordinator ] || continue
        [ "$of_epoch" = "$epoch" ] ||
            fail "$name has a coordinator of epoch $of_epoch, and the cluster is in epoch $epoch: it must not be started again; $clear keep"
        [ "$(awk -v one="$name" '$1 == "coordinator" && $2 == one { print $4 }' "$work/hosts")" = "$address" ] ||
            fail "the coordinator on $name is reached at $address, which cannot be changed: give that as its address, or take it out of the list and put it in anew"
    done <"$work/members"
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
    patiently "$@" || {
        # Whoever was asked last may have said what is wrong.
        cat "$work/error" >&2
        fail "$name is not well $FLOWYARD_PATIENCE seconds after its start; the hosts after it are left as they were.
The program before is $name:/usr/local/bin/fctl.previous; look there with: journalctl -u flowyard-$role"
    }
    if [ -s "$work/started" ]; then
        started=$(host "$target" pid_of "$role" </dev/null)
        sleep "$FLOWYARD_SETTLE"
        "$@" && [ "$(host "$target" pid_of "$role" </dev/null)" = "$started" ] ||
            fail "$name was well and is not any more; the hosts after it are left as they were"
    fi
    host "$target" well </dev/null
    say "$name: runs as $role, and is well"
}

coordinator() {
    name=$1 target=$2 address=$3
    place "$name" "$target"
    if ! has coordinator "$name"; then
        if [ -s "$work/clusters" ]; then
            let_in coordinator "$name" "$target" "$address"
        else
            say "$name: forms cluster $FLOWYARD_CLUSTER"
            host "$target" form "$FLOWYARD_CLUSTER" "$address" </dev/null
        fi
        echo formed >>"$work/clusters"
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
    {
        printf '%s\n' '# Written by Terraform; the next apply replaces what is changed here.' '[agent]'
        printf '%s' "$3" | base64 -d
        printf '%s\n' "$FLOWYARD_SETTINGS"
    } | host "$target" settings
    run agent "$name" "$target" node_is_up "$name"
    # Its removal may have been begun, and given up.
    if grep -q "^$name .* leaves\$" "$work/all"; then
        ask reopen "$name" || {
            cat "$work/error" >&2
            fail "$name was not opened to work again"
        }
    fi
}

# Coordinators that are there before those that come, so that these meet a cluster of their own release; then the agents.
walk() {
    while read -r role name target address labels; do
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
        agent) agent "$name" "$target" "$labels" ;;
        esac
    done <"$work/hosts"
}

# A coordinator that is a member and stands still (its program did not start, or we were ended before it was started) is started before
# anything else: that takes nothing from the cluster, and whoever asks that all are well would wait for it. Not one that the cluster, if it
# answers, has taken out meanwhile.
start_what_stands_still() {
    while read -r role name target _; do
        [ "$role" = coordinator ] && has coordinator "$name" || continue
        pid=$(host "$target" pid_of coordinator </dev/null) || pid=0
        [ "${pid:-0}" = 0 ] || continue
        number=$(sed -n 's/^coordinator \([^ ]*\) .*/\1/p' "$work/$name.facts")
        if ask members >"$work/now" && ! grep -q "^$number " "$work/now"; then
            fail "$name has what coordinator $number kept, which is in the cluster no more; if nothing of it is needed, on $name: sh $remote clear coordinator keep"
        fi
        place "$name" "$target"
        say "$name: its coordinator stands still, and is started first"
        host "$target" run coordinator </dev/null >/dev/null ||
            fail "$name was not started; the hosts after it are left as they were"
        host "$target" facts </dev/null >"$work/$name.facts"
    done <"$work/hosts"
}

# A coordinator that was let in and whose host never heard of that is a member that nobody is. Where it does not vote it is taken out, so
# that its host can be let in; one that votes has been there, and what it kept may only be out of sight.
take_out_who_never_came() {
    [ -s "$work/clusters" ] && ask members >"$work/now" || return 0
    while read -r role name _ address _; do
        [ "$role" = coordinator ] && ! has coordinator "$name" || continue
        read -r number _ votes _ _ answers _ <<END || continue
$(awk -v one="$address" '$2 == one' "$work/now")
END
        [ -n "$number" ] || continue
        [ "$answers" = false ] || fail "$name: coordinator $number answers at $address, and is not on that host; give $name an address of its own"
        [ "$votes" = false ] || fail "$name has no coordinator any more, and the cluster counts on coordinator $number there: is a disk of it not mounted?
If what it kept is lost, on another coordinator: fctl cluster remove $number; then apply again"
        say "$name: coordinator $number was let in and never came; it is taken out"
        ask remove-member "$number" >/dev/null || {
            cat "$work/error" >&2
            fail "coordinator $number was not taken out"
        }
    done <"$work/hosts"
}

[ -f "$FLOWYARD_PROGRAM" ] || fail "there is no $FLOWYARD_PROGRAM"
wanted_hosts >"$work/hosts"
touch "$work/members"
lock
look_at_all
look_whose_they_are
start_what_stands_still
take_out_who_never_came
walk coordinator there
walk coordinator new
walk agent all
