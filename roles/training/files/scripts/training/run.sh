#!/usr/bin/env bash
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Trains and reports the throughput. TRAINING_RUN_DIR on storage that outlives the container makes the run resumable (exit code 75: run again).
set -euo pipefail
run_dir="${TRAINING_RUN_DIR:-$PWD/training-run}"
csv=()
if [ -n "${MAD_OUTPUT_CSV:-}" ]; then
  csv=(--csv "$MAD_OUTPUT_CSV")
fi
# exec: signals reach the engine itself and not a shell that would keep them.
exec python3 -m training_engine benchmark --run-dir "$run_dir" "${csv[@]}" "$@"
