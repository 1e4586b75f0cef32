#!/usr/bin/env bash
# mad.engine: the image of run 0000000000000001; staging time, not run time
set -u
file=/shared/x.sqsh
if [ ! -r "$file" ]; then
  echo "$file cannot be read on this node"
  exit 1
fi
sum=$(sha256sum "$file")
if [ "${sum%% *}" != 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef ]; then
  echo "$file is not the planned image sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  exit 1
fi
