#!/usr/bin/env bash
set -eu
gpus=()
gpus=(--group-add video --cap-add SYS_PTRACE --device /dev/kfd --device /dev/dri)
shared=/shared/mad/c/runs/1/attempt-1
MAD_IMAGE=$(docker image inspect --format '{{.Id}}' rocm/pytorch:latest)
MAD_IMAGE=${MAD_IMAGE#sha256:}
echo "sha256:$MAD_IMAGE" >"$shared/io/image"
run_in() { # folder without its first slash: the container with the folders work and io in it
  MAD_PLACE=$1
  docker rm --force --volumes mad-c-1-1-0 >/dev/null 2>&1 || :
  rm -f "/$MAD_PLACE/io/container.id"
  docker run "${gpus[@]}" --name mad-c-1-1-0 --pull never --cidfile /"${MAD_PLACE}"/io/container.id --label mad.engine=1 --network host --user 0:0 --shm-size 68719476736 --mount type=bind,source=/data/imagenet,target=/data,readonly --mount type=bind,source=/"${MAD_PLACE}"/work,target=/myworkspace --mount type=bind,source=/"${MAD_PLACE}"/io,target=/.mad --workdir /myworkspace --entrypoint sh sha256:"${MAD_IMAGE}" /.mad/driver.sh
}
bring_out() {
  local name have
  for name in phases pre.log model.log post.log; do
    have=$(stat -c %s "$shared/io/$name" 2>/dev/null || echo 0)
    [ ! -f "$place/io/$name" ] || dd if="$place/io/$name" of="$shared/io/$name" iflag=nofollow,nonblock,skip_bytes \
      oflag=append conv=notrunc skip="$have" bs=1M status=none 2>/dev/null || :
  done
}
trap : TERM INT HUP USR1 USR2
code=0
run_in "${shared#/}" || code=$?
if [ ! -s "$shared/io/phases" ] && grep -qsi 'permission denied' "$shared/io/engine.log"; then
  echo "the engine may not use $shared; it works in a folder of this node, and what it writes is brought out"
  place=$(mktemp -d "${TMPDIR:-/tmp}/mad-node-XXXXXX")
  cp -R "$shared/work" "$shared/io" "$place"
  rm -f "$shared/io/env.sh" "$place/io/engine.log"
  while sleep 2; do bring_out; done &
  follower=$!
  code=0
  run_in "${place#/}" || code=$?
  kill "$follower" && wait "$follower" || :
  cp -RP "$place/io/." "$shared/io" || :
  rm -rf "$place"
fi
exit "$code"
