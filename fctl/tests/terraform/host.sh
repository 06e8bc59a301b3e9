#!/bin/sh
# The first process of a host of the test: disks of its own where the product keeps things, a service manager's stand-in, sshd. Root's home is
# empty: a shell that reads what a developer has there may take half a second, for each command that comes by SSH.
# `host.sh NAME FOLDER`; FOLDER has what all hosts share.
set -e
hostname "$1"
for place in /usr/local /var/lib /run /etc/systemd/system ~root; do
    mkdir -p "$place"
    mount -t tmpfs -o mode=755 host "$place"
done
mkdir -p /usr/local/sbin /usr/local/bin /run/sshd /run/units
cp "$2/systemctl" /usr/local/sbin/systemctl
printf '%s %s\n' "$1" "$2" >/run/test-host
/usr/sbin/sshd -D -e -f "$2/sshd_config" >"$2/$1.sshd" 2>&1 &
while sleep 86400; do :; done
