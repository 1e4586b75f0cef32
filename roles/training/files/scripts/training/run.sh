#!/usr/bin/env bash
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Trains and reports the throughput.
# TRAINING_PYTHON: the Python that has the engine (default python3; on a host without containers: that of the environment it is installed in).
# TRAINING_RUN_DIR: the run folder, on storage that outlives the container where a run is to be resumed (exit code 75: run again).
set -euo pipefail
python="${TRAINING_PYTHON:-python3}"
run_dir="${TRAINING_RUN_DIR:-$PWD/training-run}"
if ! "$python" -c 'import importlib.util, sys; sys.exit(any(importlib.util.find_spec(name) is None for name in ("torch", "training_engine")))'; then
  echo "run.sh FAILED: $python lacks torch or training_engine; install them there (pip install torch, then pip install roles/training/files), or name" \
    "another Python in TRAINING_PYTHON" >&2
  exit 64
fi
csv=()
if [ -n "${MAD_OUTPUT_CSV:-}" ]; then
  csv=(--csv "$MAD_OUTPUT_CSV")
fi
# exec: signals reach the engine itself and not a shell that would keep them.
exec "$python" -m training_engine benchmark --run-dir "$run_dir" "${csv[@]}" "$@"
