#!/usr/bin/env bash
# mad.engine: the image of run 0000000000000001; staging time, not run time
set -u
exit 0
