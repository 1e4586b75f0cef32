# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run every benchmark (bench_*.py) after another and print what each one printed; a missed target does not hide the next benchmark."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run them; the exit status says whether every target was met."""
    known = [path.stem[len("bench_") :] for path in sorted(HERE.glob("bench_*.py"))]
    wanted = sys.argv[1:]
    if set(wanted) - set(known):
        sys.exit("no such benchmark: %s; there are %s" % (", ".join(sorted(set(wanted) - set(known))), ", ".join(known)))
    missed = []
    cpus, load = os.cpu_count() or 1, os.getloadavg()[0]
    print("Benchmarks on %d CPUs, load %.1f; numbers are ratios or CPU seconds wherever that is possible." % (cpus, load))
    for name in wanted or known:
        started = time.monotonic()
        print("\n== %s" % name, flush=True)
        status = subprocess.run([sys.executable, str(HERE / ("bench_%s.py" % name))], check=False).returncode
        print("   (%.0f s, %s)" % (time.monotonic() - started, "targets met" if status == 0 else "TARGET MISSED or not run"), flush=True)
        if status:
            missed.append(name)
    print("\n%s" % ("every target was met" if not missed else "missed: " + ", ".join(missed)))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
