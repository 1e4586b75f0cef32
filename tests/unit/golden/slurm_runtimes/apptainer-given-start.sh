#!/usr/bin/env bash
set -eu
apptainer=$(command -v apptainer || command -v singularity) || {
  echo 'there is neither apptainer nor singularity on this node'
  exit 127
}
home=$(mktemp -d "${TMPDIR:-/tmp}/mad-home-XXXXXX")
trap : TERM INT HUP USR1 USR2
"$apptainer" exec --cleanenv --home "$home:/root" --writable-tmpfs --pwd /myworkspace --bind /shared/mad/c/runs/1/attempt-1/work:/myworkspace --bind /shared/mad/c/runs/1/attempt-1/io:/.mad --bind /data/imagenet:/data:ro \
  /shared/x.sif sh -c 'trap : TERM INT HUP USR1 USR2; . "$0"' /.mad/driver.sh || :
trap '' TERM INT HUP USR1 USR2
rm -rf "$home"
