#!/usr/bin/env bash
# mad.engine: the image of run 0000000000000001; staging time, not run time
set -u
file=/shared/x.sif
if [ ! -r "$file" ]; then
  echo "$file cannot be read on this node"
  exit 1
fi
