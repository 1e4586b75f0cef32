# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All steps of dev/test, and its command line.

    dev/test                  everything: static checks, unit tests, integration tests on real parts, molecule, packages
    dev/test --check          the quick part without root and services (make check)
    dev/test --bench          the benchmarks: ratios, no verdict (make bench); --only a,b chooses among them
    dev/test --only a,b --skip c --list
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import bootstrap
import real_parts
import static_steps
import test_steps
from context import Context
from runner import Run, Step, interrupt_on_sigterm


def all_steps(context: Context) -> list[Step]:
    """Return every step in the order in which they start: what is quick fills the time until the real parts are here, then the longest first."""
    return [*real_parts.steps(context), *static_steps.steps(context), *test_steps.steps(context)]


def arguments(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="dev/test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only what is quick and needs neither root nor services")
    parser.add_argument("--bench", action="store_true", help="only the benchmarks")
    parser.add_argument("--only", default="", metavar="STEP,...", help="only these steps")
    parser.add_argument("--skip", default="", metavar="STEP,...", help="all but these steps")
    parser.add_argument("--list", action="store_true", help="print the steps")
    return parser.parse_args(argv)


def chosen(steps: list[Step], args: argparse.Namespace) -> list[Step]:
    """Return the steps that were asked for; an unknown name is an error, not an empty run."""
    only, skip = (set(filter(None, text.split(","))) for text in (args.only, args.skip))
    unknown = (only | skip) - {step.name for step in steps}
    if unknown:
        sys.exit("dev/test: no such step: %s (dev/test --list)" % ", ".join(sorted(unknown)))
    if only:
        needed = only | with_parts(steps, only)
        return [step for step in steps if step.name in needed]
    return [step for step in steps if step.name not in skip and (step.check or not args.check)]


def with_parts(steps: list[Step], names: set[str]) -> set[str]:
    """Return the steps that bring the real parts which these steps need, and what those need in turn."""
    needed = {name for step in steps if step.name in names for name in step.after if name in real_parts.NAMES}
    return needed | with_parts(steps, needed) if needed else needed


def bench(context: Context, only: str) -> int:
    """Bring the real parts, then run the benchmarks, which print as they go."""
    Run(context.root, Path(context.home) / ".dev" / "logs", context.strict).execute(real_parts.steps(context))
    argv = [sys.executable, str(bootstrap.ROOT / "tests" / "bench" / "run.py"), *filter(None, only.split(","))]
    return subprocess.run(argv, check=False).returncode


def main() -> None:
    """Run the steps; the last line counts them."""
    args = arguments(sys.argv[1:])
    interrupt_on_sigterm()
    context = Context()
    try:
        if args.bench:
            sys.exit(bench(context, args.only))
        known = all_steps(context)
        steps = chosen(known, args)
        if args.list:
            print("\n".join("%-18s %s" % (step.name, step.about) for step in steps))
            return
        run = Run(context.root, Path(context.home) / ".dev" / "logs", context.strict)
        try:
            run.execute(steps)
        except KeyboardInterrupt:
            run.summary(left=len(steps) - len(run.results))
            sys.exit(130)
        status = run.summary()
        if args.check:
            print("left out by --check: %s" % ", ".join(step.name for step in known if not step.check))
        sys.exit(status)
    finally:
        context.close()


if __name__ == "__main__":
    main()
