# CONTEXT {'gpu_vendor': 'NONE', 'guest_os': 'UBUNTU'}
# SPDX-License-Identifier: GPL-3.0-or-later
# Everything the benchmarks need is Python 3.8 or newer with its standard library; any base of the Debian family does.
ARG BASE_DOCKER=ubuntu:24.04
FROM ${BASE_DOCKER}
RUN command -v python3 >/dev/null || (apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*)
RUN python3 -c 'import csv, hashlib, multiprocessing, zlib'
