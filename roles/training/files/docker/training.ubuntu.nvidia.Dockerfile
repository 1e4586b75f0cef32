# CONTEXT {'gpu_vendor': 'NVIDIA', 'guest_os': 'UBUNTU'}
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The build context is the folder of models.json.
ARG BASE_DOCKER=pytorch/pytorch:latest
FROM $BASE_DOCKER
COPY pyproject.toml README.md /opt/training-engine/
COPY training_engine /opt/training-engine/training_engine
RUN python3 -m pip install --no-cache-dir "/opt/training-engine[data]"
