# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API reference out of docstrings and signatures: `python tests/support/api.py` writes docs/training/api.md; a test compares."""

from __future__ import annotations

import enum
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TARGET = ROOT.parents[2] / "docs" / "training" / "api.md"
HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
# API reference

Generated from the docstrings by `python tests/support/api.py`; a test compares the two. Everything on this page can be imported from
`training_engine`; what is not here is internal and may change.
"""


def document() -> str:
    """The whole page."""
    import training_engine

    parts = [HEAD]
    for name in sorted(training_engine.__all__, key=str.lower):
        parts.append(_entry(name, getattr(training_engine, name), training_engine._WHERE[name]))
    parts.append(_options())
    return "\n".join(parts)


def _entry(name: str, value: Any, module: str) -> str:
    lines = [f"## {name}", "", f"`training_engine.{module}`", ""]
    if inspect.isclass(value) or inspect.isfunction(value):
        lines += ["```text", f"{name}{_signature(value)}", "```", ""]
    lines += [inspect.getdoc(value) or "", ""]
    for method, function in sorted(vars(value).items()) if inspect.isclass(value) else []:
        raw = getattr(function, "__func__", getattr(function, "fget", function))
        if not method.startswith("_") and inspect.isfunction(raw) and raw.__doc__:
            what = "" if isinstance(function, property) else _signature(raw, bound=not isinstance(function, staticmethod))
            lines += [f"- `{method}{what}`: {' '.join(inspect.getdoc(raw).split())}"]
    return "\n".join(lines).rstrip() + "\n"


def _signature(value: Any, *, bound: bool = False) -> str:
    """Names and defaults; annotations stand in the sources and would drown the page."""
    if inspect.isclass(value) and issubclass(value, enum.Enum):
        return "(value)"  # what inspect says of it differs from one Python to the next
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        return ""
    shown = [item.replace(annotation=inspect.Parameter.empty) for item in parameters[1 if bound else 0:]]
    return str(inspect.Signature(shown))


def _options() -> str:
    config = importlib.import_module("training_engine.config")
    how = "Each is `--name` on the command line, `TRAINING_ENGINE_NAME` in the environment, `with_name` of the builder."
    rows = ["## Options", "", how, "", "| option | section | default | meaning |", "|---|---|---|---|"]
    rows += [f"| `{leaf.name}` | {leaf.section} | `{leaf.default}` | {leaf.help}"
             f"{'; one of ' + ', '.join(leaf.choices) if leaf.choices else ''} |" for leaf in config.LEAVES.values()]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    TARGET.write_text(document(), encoding="utf-8")
