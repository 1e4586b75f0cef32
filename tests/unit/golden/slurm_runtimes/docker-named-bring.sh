#!/usr/bin/env bash
# mad.engine: the image of run 0000000000000001; staging time, not run time
set -u
noted=${1:+$1/image} # the image's id is noted beside the logs
have() { docker image inspect --format '{{.Id}}' rocm/pytorch:latest >"${noted:-/dev/null}"; }
if have 2>/dev/null; then exit 0; fi
exec 9>"${TMPDIR:-/tmp}/mad-image-$(id -u).lock"
flock 9
if have 2>/dev/null; then exit 0; fi
docker pull --quiet rocm/pytorch:latest
have
