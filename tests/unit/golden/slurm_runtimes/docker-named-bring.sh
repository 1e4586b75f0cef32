#!/usr/bin/env bash
# mad.engine: the image of run 0000000000000001; staging time, not run time
set -u
have() { docker image inspect rocm/pytorch:latest >/dev/null; }
if have 2>/dev/null; then exit 0; fi
# On the shared file system: a job may have a /tmp of its own.
mkdir -p /shared/mad/locks
exec 9>/shared/mad/locks/"$(hostname)"
flock 9 || : # not every shared file system has locks; then two jobs may do the same work
if have 2>/dev/null; then exit 0; fi
logins=/shared/mad/c/logins
if ! [ -r "$logins/config.json" ] || ! DOCKER_CONFIG=$logins REGISTRY_AUTH_FILE=$logins/config.json docker pull --quiet rocm/pytorch:latest; then
  docker pull --quiet rocm/pytorch:latest
fi
have
