#!/usr/bin/env bash
# mad.engine: the image of run 0000000000000001; staging time, not run time
set -u
file=/shared/mad/c/images/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.sif
if [ -s "$file" ]; then exit 0; fi
mkdir -p "${file%/*}"
exec 9>"$file.lock"
flock 9 || : # not every shared file system has locks; then two nodes may do the same work
if [ -s "$file" ]; then exit 0; fi
new=$file.$(hostname).$$
trap 'rm -f "$new"' EXIT
archive=/shared/mad/images/0123.tar hex=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
proof=''
for entry in "blobs/sha256/$hex" "$hex.json"; do
  sum=$(tar -xOf "$archive" "$entry" 2>/dev/null | sha256sum)
  if [ "${sum%% *}" = "$hex" ]; then proof=$entry; fi
done
if [ -z "$proof" ]; then
  echo "$archive does not hold the image sha256:$hex"
  exit 1
fi
apptainer=$(command -v apptainer || command -v singularity) || {
  echo 'there is neither apptainer nor singularity on this node'
  exit 127
}
"$apptainer" build --force "$new" "docker-archive:$archive" || exit 1
mv -f "$new" "$file"
