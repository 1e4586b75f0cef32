#!/usr/bin/env bash
set -eu
podman rm --force --volumes mad-c-1-1-0 >/dev/null 2>&1 || :
rm -f /shared/mad/c/runs/1/attempt-1/io/container.id
gpus=()
IFS=, read -r -a numbers <<<"${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS:-all}}"
gpus=(--cap-add SYS_PTRACE)
for number in "${numbers[@]}"; do gpus+=(--device "nvidia.com/gpu=$number"); done
exec podman run "${gpus[@]}" --name mad-c-1-1-0 --pull never --cidfile /shared/mad/c/runs/1/attempt-1/io/container.id --label mad.engine=1 --network host --user 0:0 --shm-size 68719476736 --mount type=bind,source=/data/imagenet,target=/data,readonly --mount type=bind,source=/shared/mad/c/runs/1/attempt-1/work,target=/myworkspace --mount type=bind,source=/shared/mad/c/runs/1/attempt-1/io,target=/.mad --workdir /myworkspace --entrypoint sh sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef /.mad/driver.sh
