#!/usr/bin/env bash
set -eu
trap : TERM INT HUP USR1 USR2
printf '%s\n' 'trap : TERM INT HUP USR1 USR2' '. /.mad/driver.sh' >/shared/mad/c/runs/1/attempt-1/io/rc
enroot remove --force mad-c-1-1-0 >/dev/null 2>&1 || :
enroot create --name mad-c-1-1-0 /shared/mad/c/images/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.sqsh
enroot start --root --rw --rc /shared/mad/c/runs/1/attempt-1/io/rc --mount /shared/mad/c/runs/1/attempt-1/work:/myworkspace:none:x-create=auto,rbind,rw --mount /shared/mad/c/runs/1/attempt-1/io:/.mad:none:x-create=auto,rbind,rw --mount /data/imagenet:/data:none:x-create=auto,rbind,ro --env NVIDIA_VISIBLE_DEVICES=all mad-c-1-1-0 || :
trap '' TERM INT HUP USR1 USR2
enroot remove --force mad-c-1-1-0
