#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
set -eu
exec python3 scaling.py "$@"
