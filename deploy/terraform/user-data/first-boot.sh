#!/bin/sh
# What cloud-init runs once, as root: gets the program, makes this machine a member, and starts its service. It may be run again.
#
# Beside it lie: host.sh, `first-boot.env` (what is wanted), `config.toml` (settings of an agent), and, until it was used, `token`.
set -eu
umask 077
here=$(dirname "$0")
host() {
    sh "$here/host.sh" "$@"
}
# shellcheck source=/dev/null
. "$here/first-boot.env"

download() {
    if command -v curl >/dev/null; then
        curl --fail --silent --show-error --location --retry 5 --retry-connrefused --output "$2" "$1"
    else
        wget --quiet --tries=5 --output-document="$2" "$1"
    fi
}

if ! host facts | grep -q "^program $SHA256\$"; then
    download "$URL" "$here/fctl.new"
    host place "$SHA256" <"$here/fctl.new"
    rm -f "$here/fctl.new"
fi
[ -n "$NAME" ] || NAME=$(uname -n)
[ -n "$ADDRESS" ] || ADDRESS=$(uname -n):7400
case $ROLE in
agent) set -- join-agent "$NAME" ;;
coordinator) set -- join-coordinator "$ADDRESS" ;;
esac
if [ -f "$here/token" ]; then
    host "$@" <"$here/token"
    rm -f "$here/token"
elif [ "$ROLE" = coordinator ]; then
    host form "$CLUSTER" "$ADDRESS"
fi
if [ "$ROLE" = agent ]; then
    host settings <"$here/config.toml"
fi
host run "$ROLE"
host well
