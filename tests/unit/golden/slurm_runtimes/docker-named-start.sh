#!/usr/bin/env bash
set -eu
docker rm --force --volumes mad-c-1-1-0 >/dev/null 2>&1 || :
rm -f /shared/mad/c/runs/1/attempt-1/io/container.id
gpus=()
gpus=(--group-add video --cap-add SYS_PTRACE --device /dev/kfd --device /dev/dri)
exec docker run "${gpus[@]}" --name mad-c-1-1-0 --pull never --cidfile /shared/mad/c/runs/1/attempt-1/io/container.id --label mad.engine=1 --network host --user 0:0 --shm-size 68719476736 --mount type=bind,source=/data/imagenet,target=/data,readonly --mount type=bind,source=/shared/mad/c/runs/1/attempt-1/work,target=/myworkspace --mount type=bind,source=/shared/mad/c/runs/1/attempt-1/io,target=/.mad --workdir /myworkspace --entrypoint sh "$(cat /shared/mad/c/runs/1/attempt-1/io/image)" /.mad/driver.sh
