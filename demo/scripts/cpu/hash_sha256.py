# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SHA-256 throughput of one core: hashlib (OpenSSL) over a buffer of 1 MiB."""

from __future__ import annotations

import argparse
import hashlib
import sys

import measure
import tools

MEGA = 1e6
# SHA-256 of 1 MiB of the bytes 0, 1, ... 255, 0, ...: what is hashed is hashed right.
EXPECTED = "fbbab289f7f94b25736c58be46a994c441fd02552cc6022352e3d86d2fab7c83"


def implementation():
    """Name what computes the digest."""
    try:
        import _hashlib
    except ImportError:
        return "Python's own, no OpenSSL"
    return getattr(_hashlib, "openssl_version", None) or _openssl_version()


def _openssl_version():
    try:
        import ssl
    except ImportError:
        return "OpenSSL, version unknown"
    return ssl.OPENSSL_VERSION


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--block", type=int, default=1 << 20, help="bytes hashed by one call")
    block = parser.parse_args().block
    data = (bytes(range(256)) * (block // 256 + 1))[:block]
    if block == 1 << 20 and hashlib.sha256(data).hexdigest() != EXPECTED:
        sys.exit("the digest is wrong: this machine or its OpenSSL computes SHA-256 incorrectly")
    measure.describe("SHA-256", block_bytes=block, implementation=implementation(), method="hashlib.sha256(block).digest(), one thread")
    found = measure.measure(lambda: hashlib.sha256(data).digest(), block)
    tools.compare("openssl speed", found.median, tools.openssl_speed("sha256", block), MEGA, "MB_per_second")
    measure.report(found, MEGA, "MB_per_second")


if __name__ == "__main__":
    main()
