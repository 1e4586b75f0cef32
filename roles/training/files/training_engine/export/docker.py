# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Dockerfile of a bundle, from what the model needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """device: cpu, cuda or rocm. base: the image, best with a digest. extra: further distributions. port: where the server listens."""

    device: str = "cpu"
    base: str = "python:3.12-slim"
    torch: str = "torch>=2.6"
    extra: tuple[str, ...] = ()
    port: int = 8000

    def requirements(self) -> str:
        """The requirements file of the image."""
        return "\n".join([self.torch, "numpy>=1.26", "safetensors>=0.5", "fastapi>=0.110", "uvicorn>=0.29", *self.extra]) + "\n"


INDEX = {"cpu": "https://download.pytorch.org/whl/cpu", "cuda": "https://download.pytorch.org/whl/cu128",
         "rocm": "https://download.pytorch.org/whl/rocm6.4"}


def dockerfile(needs: Needs) -> str:
    """The text. Not root; an exec-form command, so that SIGTERM reaches the server; a health check that needs no curl."""
    check = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{needs.port}/ready', timeout=3)"
    return f"""FROM {needs.base}
RUN useradd --system --uid 10001 --no-create-home serve
WORKDIR /srv
COPY requirements.txt ./
RUN python3 -m pip install --no-cache-dir --extra-index-url {INDEX[needs.device]} -r requirements.txt
COPY --chown=10001:10001 . ./
USER 10001
EXPOSE {needs.port}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python3", "-c", "{check}"]
CMD ["python3", "-m", "uvicorn", "inference:app", "--host", "0.0.0.0", "--port", "{needs.port}"]
"""
