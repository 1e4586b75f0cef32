# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that run code: unit tests on every Python, integration tests on real parts, packages as users get them."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import training_steps
from bootstrap import Environment, requirements
from real_parts import engine_of_its_own
from runner import Absent, Failed, Job, Step, line_with
from static_steps import HERE, in_copy, prepare_ansible_test, sanity, without

if TYPE_CHECKING:
    from context import Context

FLOOR = (3, 8)
# The last that run on Python 3.8.
FLOOR_TOOLS = ["pytest<8.4", "hypothesis<6.114", "jsonschema<4.24"]
# Files of tests/integration that are steps of their own, beside the others: what runs models on hosts, what mostly waits for a scheduler, and
# what works through pages.
FILES = {
    "hosts": ("campaigns on hosts, crashes", ("test_run_context.py", "test_run_fleet.py", "test_run_killed.py", "test_host_*.py")),
    "slurm": ("real Slurm", ("test_run_mixed.py", "test_slurm_*.py")),
    "k8s": ("stand-in for Kubernetes", ("test_k8s_*.py",)),
    "pages": ("documentation, judgement, reports", ("test_docs.py", "test_report*.py", "test_judge*.py")),
}
# Unit tests that next-core leaves out, for they know nothing of Ansible and little of Python: the statistics', and those that only call shellcheck.
ELSEWHERE = ("--ignore=tests/unit/plugins/plugin_utils/judge", "-k", "not shellcheck")
IMPORT_ALL = """
import compileall, importlib, pathlib, sys
tree = pathlib.Path(sys.argv[1]); core = tree / "ansible_collections/mad/engine/plugins/module_utils"
sys.path.insert(0, str(tree)); sys.dont_write_bytecode = True
names = sorted(".".join(p.relative_to(core).with_suffix("").parts) for p in core.rglob("*.py"))
for name in names:
    compile((core / (name.replace(".", "/") + ".py")).read_bytes(), name, "exec")
    importlib.import_module("ansible_collections.mad.engine.plugins.module_utils." + name)
print("%d modules import on Python %d.%d" % (len(names), *sys.version_info[:2]))
"""


def steps(context: Context) -> list[Step]:
    """Return them, the longest chains first."""
    about = "pytest tests/integration, the rest: builds, images, plans, discovery, the demo"
    return [
        files("hosts", context),
        Step("integration", about, lambda job: integration(context, job), False, ("engine", "parts"), True),
        files("slurm", context),
        Step("next-core", "ansible-core 2.21 on Python 3.12 or newer", lambda job: next_core(context, job), check=False),
        files("k8s", context),
        files("pages", context),
        *training_steps.make(context),
        Step("floor", "the core compiles and imports on every Python from 3.8 on", lambda job: floor(context, job)),
        Step("floor-unit", "the core's unit tests on Python 3.8", lambda job: floor_unit(context, job), check=False, after=("floor",)),
        Step("unit", "pytest tests/unit", lambda job: unit(context, job)),
        Step("sanity", "ansible-test sanity, without ignores", lambda job: sanity(context, job), check=False),
        Step("package", "collection build and install, pip install", lambda job: package(context, job), check=False),
        Step("molecule", "molecule: the role local", lambda job: molecule(context, job), check=False),
    ]


def pytest(job: Job, *arguments: str, python: str = sys.executable, env: dict[str, str] | None = None) -> str:
    """Run pytest on folders or files of tests; return its last line. No tests at all is a failure."""
    status = job.call([python, "-m", "pytest", "-q", "-rfE", *arguments], env=env)
    note = line_with(job.tail(200), " passed", " failed", " error", "no tests ran")
    if status:
        raise Failed(note or "pytest ended with %d" % status)
    absent = [line for line in job.tail(40) if line.startswith("!! ABSENT")]
    return "; ".join([note, *absent])


def unit(context: Context, job: Job) -> str:
    """The whole unit suite here."""
    return pytest(job, "tests/unit", "-n", "2")


def integration(context: Context, job: Job) -> str:
    """Tests on real parts that no other step runs."""
    others = [pattern for dummy, patterns in FILES.values() for pattern in patterns]
    left_out = ["--ignore=%s" % training_steps.PLAY, *("--ignore-glob=*/%s" % pattern for pattern in others)]
    with engine_of_its_own(context) as engine:
        return pytest(job, "tests/integration", "--durations=15", *left_out, env={**engine, "MAD_DEV_HOME": str(context.home)})


def files(name: str, context: Context) -> Step:
    """A step for some files of tests/integration."""
    about, patterns = FILES[name]

    def action(job: Job) -> str:
        found = [str(path) for pattern in patterns for path in sorted((context.root / "tests" / "integration").glob(pattern))]
        common: contextlib.AbstractContextManager[dict[str, str]] = contextlib.nullcontext({})
        with engine_of_its_own(context) if name == "hosts" else common as engine:
            return pytest(job, "--durations=15", *found, env={**engine, "MAD_DEV_HOME": str(context.home)})

    return Step(name, "pytest tests/integration: " + about, action, False, ("engine", "parts"), True)


def floor(context: Context, job: Job) -> str:
    """Static check for 3.8; compile and import everywhere."""
    sources = [context.copy.path / "plugins" / kind for kind in ("module_utils", "modules")]
    job.must(["vermin", "--no-tips", "--violations", "-t=3.8-", *sources], what="newer than Python 3.8")
    for interpreter in context.pythons.values():
        job.must([interpreter, "-I", "-c", IMPORT_ALL, context.copy.tree], what="the core does not import on %s" % interpreter)
    return "imports on " + versions(context)


def floor_unit(context: Context, job: Job) -> str:
    """The core's unit tests on the oldest Python of the hosts."""
    if FLOOR not in context.pythons:
        raise Absent("no Python 3.8 here (the core imports on %s)" % versions(context), excusable=True)
    tools = Environment("floor", context.pythons[FLOOR], FLOOR_TOOLS).ensure()
    env = {"PYTHONPATH": str(context.tree), "MAD_DEV_HOME": str(context.home)}
    return pytest(job, "tests/unit/plugins/module_utils", python=tools.python, env=env)


def versions(context: Context) -> str:
    """Return the Pythons that are here, as people write them."""
    return " ".join("%d.%d" % version for version in context.pythons)


def package(context: Context, job: Job) -> str:
    """Build the collection and the wheel, install each somewhere new, and use it from an empty folder."""
    with tempfile.TemporaryDirectory(prefix="mad-package-") as name:
        folder = Path(name)
        galaxy(context, job, folder)
        wheel(context, job, folder)
    return "collection and wheel install, mad.engine.discover runs from both"


def discover(context: Context, job: Job, ansible_playbook: str, folder: Path, env: dict[str, str]) -> None:
    """Use an installed collection as a stranger would."""
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    argv = [ansible_playbook, "mad.engine.discover", "-e", "mad_repo=%s" % (context.root / "demo"), "-e", "mad_tags=demo"]
    job.must(argv, cwd=empty, env={"PYTHONPATH": "", "ANSIBLE_NOCOLOR": "1", **env}, what="mad.engine.discover does not run once installed")


def galaxy(context: Context, job: Job, folder: Path) -> None:
    """ansible-galaxy collection build, then install; no dependency may need Galaxy."""
    job.must(["ansible-galaxy", "collection", "build", "--output-path", folder], cwd=context.copy.path)
    archive = next(folder.glob("mad-engine-*.tar.gz"))
    if archive.stat().st_size > 20 << 20:
        raise Failed("%s is larger than Galaxy takes (20 MB)" % archive.name)
    env = {"ANSIBLE_COLLECTIONS_PATH": str(folder / "installed"), "PYTHONPATH": ""}
    job.must(["ansible-galaxy", "collection", "install", archive, "-p", folder / "installed"], env=env)
    discover(context, job, "ansible-playbook", folder, env)


def wheel(context: Context, job: Job, folder: Path) -> None:
    """pip install of the sources into a new environment; ansible-core finds the collection in site-packages."""
    job.must([sys.executable, "-m", "venv", folder / "venv"])
    pip: list[str | Path] = [folder / "venv/bin/python", "-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check"]
    job.must([*pip, context.copy.path], what="pip install . failed")
    site = next((folder / "venv/lib").glob("python*/site-packages")) / "ansible_collections/mad/engine"
    for wanted in ("galaxy.yml", "meta/runtime.yml", "playbooks/discover.yml", "plugins/module_utils/base/errors.py", "README.md"):
        if not (site / wanted).exists():
            raise Failed("the wheel lacks %s" % wanted)
    if (site / "tests").exists() or (site / "dev").exists():
        raise Failed("the wheel carries tests or dev")
    discover(context, job, str(folder / "venv/bin/ansible-playbook"), folder, {"ANSIBLE_COLLECTIONS_PATH": str(folder / "none")})


def molecule(context: Context, job: Job) -> str:
    """Every scenario: syntax, converge, idempotence, check mode, verify."""
    if not shutil.which("molecule"):
        raise Absent("no molecule")
    job.must(["molecule", "test", "--all"], cwd=context.copy.path, env=in_copy(context))
    return line_with(job.tail(), "actions=")


def next_core(context: Context, job: Job) -> str:
    """Sanity, unit tests (but for ELSEWHERE) and one real play on the ansible-core that newer Pythons get."""
    version = context.next_python
    if not version:
        raise Absent("no Python 3.12 or newer here, so nothing ran on ansible-core 2.21", excusable=True)
    tools = Environment("test", context.pythons[version], requirements("test")).ensure()
    programs, number = tools.path / "bin", "%d.%d" % version
    env = prepare_ansible_test(context)
    env["PATH"] = "%s:%s" % (programs, env["PATH"])
    argv: list[str | Path] = [programs / "ansible-test", "sanity", *without(HERE), "--python", number, "--color", "no"]
    job.must(argv, cwd=context.copy.path, env=env)
    note = pytest(job, "tests/unit", *ELSEWHERE, python=tools.python)
    demo: list[str | Path] = [tools.python, context.root / "dev" / "demo.py", "-e", "mad_runtime=host", "-e", "mad_tags=hash_sha256"]
    job.must(demo, env={"PATH": env["PATH"]}, what="the demo fails on core 2.21")
    return "Python %s: sanity, demo, %s" % (number, note)
