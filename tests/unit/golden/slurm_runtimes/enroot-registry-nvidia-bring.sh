#!/usr/bin/env bash
# mad.engine: the image of run 0000000000000001; staging time, not run time
set -u
file=/shared/mad/c/images/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.sqsh
if [ -s "$file" ]; then exit 0; fi
mkdir -p "${file%/*}"
exec 9>"$file.lock"
flock 9 || : # not every shared file system has locks; then two nodes may do the same work
if [ -s "$file" ]; then exit 0; fi
new=$file.$(hostname).$$
trap 'rm -f "$new"' EXIT
enroot import --output "$new" -- 'docker://reg.example.com:5000#ml/x:sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee' || exit 1
mv -f "$new" "$file"
