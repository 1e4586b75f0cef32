# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role's meta/argument_specs.yml and its defaults/main.yml say the same: every default is documented, every documented default is real.

    python dev/check_arguments.py [ROOT]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


def load(path: Path) -> dict[str, Any]:
    """Return a YAML mapping, empty if the file is absent."""
    return (yaml.safe_load(path.read_text("utf-8")) or {}) if path.exists() else {}


def differences(role: Path) -> Iterator[str]:
    """Yield one line for each disagreement."""
    specs, defaults = load(role / "meta" / "argument_specs.yml").get("argument_specs", {}), load(role / "defaults" / "main.yml")
    if not specs:
        yield "meta/argument_specs.yml describes nothing"
    documented: dict[str, Any] = {}
    for entry in specs.values():
        for name, option in (entry.get("options") or {}).items():
            if option.get("default", None) != documented.setdefault(name, option).get("default", None):
                yield "%s has different defaults in different entry points" % name
    for name in sorted(set(defaults) - set(documented)):
        yield "%s is in defaults/main.yml and not in meta/argument_specs.yml" % name
    for name, option in sorted(documented.items()):
        if not name.startswith((role.name + "_", "mad_")):
            yield "%s does not carry the prefix %s_" % (name, role.name)
        if "default" in option and name not in defaults:
            yield "%s has a documented default and none in defaults/main.yml" % name
        elif name in defaults and option.get("required"):
            yield "%s is required and has a default" % name
        elif name in defaults and defaults[name] != option.get("default"):
            yield "%s: defaults/main.yml says %r, meta/argument_specs.yml %r" % (name, defaults[name], option.get("default"))


def main() -> None:
    """Print and judge."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    roles = sorted(path.parent for path in (root / "roles").glob("*/tasks"))
    found = ["roles/%s: %s" % (role.name, problem) for role in roles for problem in differences(role)]
    print("\n".join(found) or "arguments: %d roles agree with their defaults" % len(roles))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
