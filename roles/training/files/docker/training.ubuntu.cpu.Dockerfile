# CONTEXT {'gpu_vendor': 'NONE', 'guest_os': 'UBUNTU'}
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# For hosts without a GPU. The build context is the folder of models.json. A base that has torch already keeps it.
ARG BASE_DOCKER=python:3.12-slim
FROM $BASE_DOCKER
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python3 -c 'import torch' 2>/dev/null || python3 -m pip install --no-cache-dir --index-url "$TORCH_INDEX" torch
COPY pyproject.toml README.md /opt/training-engine/
COPY training_engine /opt/training-engine/training_engine
RUN python3 -m pip install --no-cache-dir "/opt/training-engine[data]"
