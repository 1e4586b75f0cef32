# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task may give `image_build`: its action plugin and its module check the same."""

from __future__ import annotations

from typing import Any, Dict

ARGUMENTS: Dict[str, Any] = {
    "campaign_dir": {"type": "path", "required": True},
    "state": {"type": "str", "default": "built", "choices": ["built", "manifest"]},
    "build_host": {"type": "str", "default": ""},
    "work_dir": {"type": "str", "default": ""},
    "engine": {"type": "str", "default": "auto", "choices": ["auto", "docker", "podman"]},
    "registry": {"type": "str", "default": ""},
    "credential_file": {"type": "str", "default": ""},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "pull": {"type": "str", "default": "missing", "choices": ["missing", "always"]},
    "no_cache": {"type": "bool", "default": False},
    "allow_secret_build_args": {"type": "bool", "default": False},
    "parallel": {"type": "int", "default": 2},
    "timeout": {"type": "int", "default": 0},
    "manifest_output": {"type": "str", "default": ""},
    "unreachable": {"type": "dict", "default": {}},
}
