# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Better tools, where they are installed: they measure the same work once more, beside the result and never in its place."""

from __future__ import annotations

import re
import shutil
import subprocess


def output(argv, seconds=20):
    """Return what a tool prints, or nothing if it is absent, fails or hangs."""
    if not shutil.which(argv[0]):
        return ""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def openssl_speed(algorithm, block):
    """Return the bytes per second that `openssl speed` finds, or None."""
    text = output(["openssl", "speed", "-mr", "-seconds", "1", "-bytes", str(block), "-evp", algorithm])
    found = re.search(r"^\+F:\d+:[^:]+:([0-9.]+)", text, re.MULTILINE)
    return float(found.group(1)) if found else None


def compare(name, ours, theirs, scale, unit):
    """Print the second opinion."""
    if theirs:
        print("  second opinion: %s finds %.6g %s, %.2f of ours" % (name, theirs / scale, unit, theirs / ours))
    else:
        print("  second opinion: none (%s is not here)" % name)
