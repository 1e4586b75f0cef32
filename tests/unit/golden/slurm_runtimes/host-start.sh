#!/usr/bin/env bash
set -eu
exec sh -c 'trap : TERM INT HUP USR1 USR2; . "$0"' /shared/mad/c/runs/1/attempt-1/io/driver.sh
