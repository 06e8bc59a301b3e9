#!/bin/sh
# The first process of a host of the test: the names of all hosts, and a disk of its own where the product keeps things.
# `host.sh NAME FOLDER`; FOLDER has `hosts` and a folder of this name.
set -e
hostname "$1"
mount --bind "$2/hosts" /etc/hosts
mount -t tmpfs -o mode=755 host /var/lib
mkdir /var/lib/flowyard
mount --bind "$2/$1" /var/lib/flowyard
touch "$2/$1.on"
exec sleep 86400
