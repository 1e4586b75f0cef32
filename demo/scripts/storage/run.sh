#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The work folder of the run is what is measured: it is the current directory.
set -eu
exec python3 fsync.py "$@"
