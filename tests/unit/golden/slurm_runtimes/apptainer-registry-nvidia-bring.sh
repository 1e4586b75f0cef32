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
apptainer=$(command -v apptainer || command -v singularity) || {
  echo 'there is neither apptainer nor singularity on this node'
  exit 127
}
"$apptainer" build --force "$new" docker://reg.example.com:5000/ml/x@sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff || exit 1
mv -f "$new" "$file"
