# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Custom models: the repository's Python in its own processes, what it may do, and what happens when it misbehaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.models import discovery, discovery_custom

ONE = 'from madengine.utils.discover_models import CustomModel\ndef list_models():\n    return [CustomModel(name="m", scripts="run.sh")]\n'


class Repo:
    """A repository without root models and with one custom directory, `d`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir()
        (root / "models.json").write_text("[]")

    def put(self, text: str, directory: str = "d", name: str = "get_models_json.py") -> None:
        """Write a file of a directory."""
        folder = self.root / "scripts" / directory
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")

    def models(self, tags: str = "all", **options: Any) -> list[dict[str, Any]]:
        """The selected cards."""
        models: list[dict[str, Any]] = discovery.discover(str(self.root), tags, **options)["models"]
        return models

    def error(self, tags: str = "all", **options: Any) -> str:
        """The message of the refusal."""
        with pytest.raises(InvalidInput) as caught:
            self.models(tags, **options)
        return caught.value.message


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """An empty repository with room for custom directories."""
    return Repo(tmp_path / "repo")


def is_running(pid: int) -> bool:
    """Whether a process runs (a zombie doesn't)."""
    try:
        return Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int, within: float = 30.0) -> bool:
    """Whether a process ends within some seconds."""
    end = time.monotonic() + within
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_running(pid)


@pytest.mark.parametrize(
    "head",
    [
        "from madengine.utils.discover_models import CustomModel",
        "from madengine.tools.discover_models import CustomModel",
        "import madengine.utils.discover_models as d; CustomModel = d.CustomModel",
        "import madengine.tools.discover_models; CustomModel = madengine.tools.discover_models.CustomModel",
        "from madengine.utils import discover_models as u; import madengine.tools.discover_models as t\n"
        "CustomModel = u.CustomModel; assert CustomModel is t.CustomModel",
    ],
)
def test_both_import_names(repo: Repo, head: str) -> None:
    """In every way to import, and they are one class."""
    repo.put(head + '\ndef list_models():\n    return [CustomModel(name="m")]\n')
    assert repo.models()[0]["name"] == "d/m"


def test_the_fields_and_their_defaults(repo: Repo) -> None:
    """madengine's, in the normal form of a card."""
    repo.put(ONE)
    assert repo.models() == [
        {
            "name": "d/m",
            "dockerfile": "",
            "dockercontext": "",
            "scripts": "scripts/d/run.sh",
            "url": "",
            "cred": "",
            "owner": "",
            "data": "",
            "n_gpus": "-1",
            "timeout": 7200,
            "training_precision": "",
            "tags": [],
            "args": "",
            "multiple_results": "",
            "skip_gpu_arch": [],
            "additional_docker_run_options": "",
            "env_vars": {},
            "source": "scripts/d/get_models_json.py",
        }
    ]


SUBCLASS = """
import dataclasses, os, pathlib
from madengine.utils.discover_models import CustomModel

@dataclasses.dataclass
class Sized(CustomModel):
    size: int = 1
    places: tuple = (1, 2)
    def __post_init__(self):
        self.helper = object()
        self._hidden = 1
    def update_model(self):
        with open(os.environ["UPDATED"], "a") as log:
            log.write(self.name + "\\n")
        self.scripts = pathlib.Path("run.sh")
        self.dockerfile = "../../docker/x"
        self.args = "--size %d" % self.size
        self.env_vars = {"SIZE": str(self.size)}
        self.additional_docker_run_options = "--shm-size 8g"

class Poisoned(CustomModel):
    def update_model(self):
        HOW

def list_models():
    yield Sized(name="one", tags=["sized"])
    yield Poisoned("poisoned")
    yield Sized(name="two", tags="sized, b", size=2)
"""


@pytest.mark.parametrize("poison", ["raise ValueError('boom')", "os._exit(0)", "import time; time.sleep(60)", "raise SystemExit(0)"])
def test_only_the_selected_are_updated(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poison: str) -> None:
    """Once each, with the directory in the name; what the update of another model would do cannot matter."""
    log = tmp_path / "updated"
    monkeypatch.setenv("UPDATED", str(log))
    repo.put(SUBCLASS.replace("HOW", poison))
    models = repo.models("sized,d/two:x=1,d/one")
    assert [(model["name"], model["args"]) for model in models] == [
        ("d/one", "--size 1"),
        ("d/two", "--size 2"),
        ("d/two", "--size 2 --x 1"),
    ]
    assert [model["scripts"] for model in models] == ["scripts/d/run.sh"] * 3
    assert models[0]["env_vars"] == {"SIZE": "1"}
    assert models[0]["additional_docker_run_options"] == "--shm-size 8g"
    assert (models[1]["size"], models[1]["places"], "helper" in models[1], "_hidden" in models[1]) == (2, [1, 2], False, False)
    assert log.read_text().split() == ["d/one", "d/two"]
    assert discovery.discover(str(repo.root), "")["names"] == ["d/one", "d/poisoned", "d/two"]
    assert "scripts/d/get_models_json.py" in repo.error("d/poisoned", timeout=1.5)


def test_an_update_that_fails_is_named(repo: Repo) -> None:
    """With file, model, error and line."""
    repo.put(SUBCLASS.replace("HOW", "raise ValueError('boom')"))
    expected = "scripts/d/get_models_json.py: update_model() of model 'poisoned' failed: ValueError: boom (get_models_json.py, line 23)"
    assert repo.error("d/poisoned") == expected


def test_an_update_cannot_rename(repo: Repo) -> None:
    """Matching is over by then; it is said."""
    renaming = "class C(CustomModel):\n    def update_model(self):\n        self.name = 'other'\ndef list"
    repo.put(ONE.replace("def list", renaming).replace("[CustomModel", "[C"))
    found = discovery.discover(str(repo.root), "all")
    assert found["models"][0]["name"] == "d/m"
    assert found["warnings"] == ["scripts/d/get_models_json.py: update_model() of model 'd/m' changed the name; ignored"]


OWN_CARD = """
from madengine.utils.discover_models import CustomModel

class Own(CustomModel):
    def update_model(self):
        self.args = "--late"
    def to_dict(self):
        HOW

def list_models():
    return [Own("m", scripts="run.sh")]
"""


def test_a_card_of_its_own_making(repo: Repo) -> None:
    """madengine asks to_dict() for the card, so what a repository's own says counts; the plain one may be called, too."""
    repo.put(OWN_CARD.replace("HOW", "return dict(super().to_dict(), env_vars={'A': '1'}, n_gpus=2)"))
    [card] = repo.models("d/m")
    assert (card["args"], card["env_vars"], card["n_gpus"], card["scripts"]) == ("--late", {"A": "1"}, "2", "scripts/d/run.sh")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("return None", "TypeError: to_dict() must return a dict, it returned None"),
        ("return {'name': object()}", "TypeError: a value of type object"),
        ("return {}['x']", "KeyError: 'x' (get_models_json.py, line 8)"),
        ("raise SystemExit(0)", "SystemExit: 0 (get_models_json.py, line 8)"),
    ],
)
def test_a_card_of_its_own_making_that_is_none(repo: Repo, how: str, said: str) -> None:
    repo.put(OWN_CARD.replace("HOW", how))
    assert repo.error("d/m").startswith("scripts/d/get_models_json.py: to_dict() of model 'm' failed: " + said)
    assert discovery.discover(str(repo.root), "")["names"] == ["d/m"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "it defines no function list_models(); please define one"),
        ("list_models = 5\n", "it defines no function list_models()"),
        ("def list_models():\n    pass\n", "list_models() must return a list of CustomModel, it returned None"),
        ("def list_models():\n    return [{'name': 'm'}]\n", "element 1 of list_models() must be a CustomModel, it is {'name': 'm'}"),
        (ONE.replace('name="m", ', ""), "missing 1 required positional argument: 'name'"),
        (ONE.replace('"m"', "7"), "entry 1, key 'name': expected a text, got the number 7"),
        (ONE.replace('"m"', "'../m'"), "entry 1, key 'name': 'd/../m' cannot be the name of a model"),
        (ONE.replace('"m"', "'m', tags=5"), "model 'd/m', key 'tags': expected a list of texts"),
        (ONE.replace('"m"', "'m', timeout='x'"), "model 'd/m', key 'timeout': expected a whole number"),
        (ONE.replace('"m"', "'m', data=object()"), "model 'm': the field data holds what JSON cannot carry: a value of type object"),
        (ONE.replace('"m"', "'m', timeout=float('nan')"), "model 'm': the field timeout holds what JSON cannot carry"),
        ("def broken(:\n", "SyntaxError"),
        ("import not_there_at_all\n", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("def list_models():\n    raise RuntimeError('no luck')\n", "RuntimeError: no luck"),
        (
            "print('before'); raise SystemExit(3)\n",
            "its Python ended with exit code 3 before it listed its models; its last lines:\n  before\n  SystemExit: 3 (get_models_json.py, line 1)",
        ),
        ("import sys\ndef list_models():\n    sys.exit('no token')\n", "its last lines:\n  SystemExit: no token (get_models_json.py, line 3)"),
        ("import argparse\nargparse.ArgumentParser().parse_args(['x'])\n", "unrecognized arguments: x\n  SystemExit: 2 (get_models_json.py, line 2)"),
        (
            ONE.replace("def list", "class C(CustomModel):\n    def __init__(self, **_):\n        self.name = 'm'\ndef list").replace("[Custom", "[C(),Custom"),
            "model 'm' has no tags: an __init__ of its own must call super().__init__(name, ...)",
        ),
        ("import os\nos._exit(0)\n", "its Python ended with exit code 0 before it listed its models; it printed nothing"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "its Python was killed by signal 11"),
        (
            ONE.replace("return [", "import itertools\n    return (").replace("]", " for _ in itertools.count())"),
            "returned more than 100000 models",
        ),
    ],
)
def test_what_goes_wrong_is_named(repo: Repo, text: str, said: str) -> None:
    """The file, what is wrong, and the last lines where they help."""
    repo.put(text)
    message = repo.error(timeout=30)
    assert message.startswith("scripts/d/get_models_json.py: ")
    assert said in message


def test_a_traceback_shows_only_the_repository(repo: Repo) -> None:
    """Not our frames, nor the import system's."""
    repo.put("def list_models():\n    return broken()\ndef broken():\n    raise KeyError('x')\n")
    message = repo.error()
    assert "get_models_json.py" in message
    assert "in broken" in message
    assert "list_models.py" not in message
    assert "importlib" not in message


def test_printing_is_no_answer(repo: Repo) -> None:
    """Neither to standard output nor to a descriptor, nor closing them all."""
    repo.put("import os\nprint('[]' * 1000)\nos.write(1, b'\\xff\\x00')\nos.closerange(0, 64)\n" + ONE)
    assert repo.models()[0]["name"] == "d/m"


def test_messages_are_safe_for_a_terminal(repo: Repo) -> None:
    """Escape sequences and bytes that are no text are shown as question marks; long lines and long outputs are cut."""
    repo.put("import sys\nsys.stdout.buffer.write(b'\\x1b[2J\\xff' + b'x' * 5000 + b'\\n')\nprint('y\\n' * 10000)\nraise SystemExit(1)\n")
    message = repo.error()
    assert "\x1b" not in message
    assert len(message) < 5000


def test_a_hung_directory_is_killed_with_what_it_started(repo: Repo, tmp_path: Path) -> None:
    """Also children that ignore polite signals; the last lines are shown."""
    pids = tmp_path / "pids"
    repo.put(
        "import os, subprocess, time, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sh', '-c', 'trap \"\" TERM; sleep 300; sleep 300'])\n"
        "open(%r, 'w').write('%%d %%d' %% (os.getpid(), child.pid))\nprint('waiting for Godot')\ntime.sleep(300)\n" % str(pids)
    )
    for seconds in (1, 5, 25):  # a busy machine may take longer than one to start it
        began = time.monotonic()
        message = repo.error(timeout=seconds)
        assert time.monotonic() - began < 60 + seconds
        if "it printed nothing" not in message:
            break
    stopped = "its models were not listed within %d s (mad_discover_timeout), so it was stopped; its last lines:\n  waiting for Godot"
    assert stopped % seconds in message
    assert all(gone(int(pid)) for pid in pids.read_text().split())


def test_nothing_stays_after_success(repo: Repo, tmp_path: Path) -> None:
    """A child in the background is ended, a thread that never ends is not waited for."""
    pid = tmp_path / "pid"
    repo.put(
        ONE + "import subprocess, threading, time\nchild = subprocess.Popen(['sleep', '300'])\n"
        "open(%r, 'w').write(str(child.pid))\nthreading.Thread(target=time.sleep, args=(300,)).start()\n" % str(pid)
    )
    began = time.monotonic()
    assert repo.models()[0]["name"] == "d/m"
    assert time.monotonic() - began < 60
    assert gone(int(pid.read_text()))


def test_an_interrupt_leaves_nothing(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends the wait, the processes end, too."""
    pid = tmp_path / "pid"
    repo.put("import os, time\nopen(%r, 'w').write(str(os.getpid()))\ntime.sleep(300)\n" % str(pid))

    def interrupted(_seconds: float) -> None:
        if pid.exists() and pid.read_text():
            raise KeyboardInterrupt

    monkeypatch.setattr(discovery_custom.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        repo.models(timeout=20)
    assert gone(int(pid.read_text()))


def test_the_death_of_the_starter_ends_all(repo: Repo, tmp_path: Path) -> None:
    """Even SIGKILL: the pipe ends, and the process group with it."""
    pids = tmp_path / "pids"
    repo.put(
        "import os, subprocess, time\nchild = subprocess.Popen(['sleep', '300'])\n"
        "open(%r, 'w').write('%%d %%d' %% (os.getpid(), child.pid))\ntime.sleep(300)\n" % str(pids)
    )
    code = "from ansible_collections.mad.engine.plugins.module_utils.models import discovery; discovery.discover(%r, 'all')" % str(repo.root)
    starter = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        end = time.monotonic() + 120
        while not (pids.exists() and len(pids.read_text().split()) == 2):
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    assert all(gone(int(pid)) for pid in pids.read_text().split())


def test_directories_run_side_by_side(repo: Repo) -> None:
    """Three that wait for each other end only if all run at a time; the answers keep their order."""
    waits = (
        "import os, time\nopen('../%d.here', 'w')\nend = time.time() + 20\n"
        "while len([n for n in os.listdir('..') if n.endswith('.here')]) < 3:\n    assert time.time() < end\n    time.sleep(.02)\n"
    )
    for number in range(3):
        repo.put(waits % number + ONE, "d%d" % number)
    assert [model["name"] for model in repo.models(jobs=3)] == ["d0/m", "d1/m", "d2/m"]


def test_all_failures_are_told_at_once(repo: Repo) -> None:
    """Up to three, and how many more."""
    for number in range(5):
        repo.put("raise SystemExit(%d)\n" % (number + 1), "d%d" % number)
    message = repo.error()
    assert "scripts/d0/get_models_json.py" in message
    assert "exit code 3" in message
    assert "and 2 more files failed" in message


def test_where_the_code_runs(repo: Repo) -> None:
    """In the repository, with neighbours importable behind what is installed, without our modules, without input and arguments."""
    repo.put("VALUE = 'neighbour'\n", name="helper.py")
    repo.put("raise RuntimeError('shadows the standard library')\n", name="json.py")
    repo.put(
        "import helper, json, os, sys\nfacts = [os.getcwd(), helper.VALUE, sys.stdin.read(), sys.argv, __name__, __file__]\n"
        "try:\n    import quoting\n    facts.append('ours')\nexcept ImportError:\n    pass\n"
        + ONE.replace('name="m"', 'name="m", data=json.dumps(facts)')
    )
    path = str(repo.root / "scripts" / "d" / "get_models_json.py")
    assert json.loads(repo.models()[0]["data"]) == [str(repo.root), "neighbour", "", [path], "get_models_json", path]


def test_endless_output_is_limited(repo: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It cannot fill the disk."""
    repo.put("import resource, sys\nprint(resource.getrlimit(resource.RLIMIT_FSIZE)[0])\nsys.stdout.flush()\nraise SystemExit(1)\n")
    assert str(256 << 20) in repo.error()


def test_listings_that_change_between_calls(repo: Repo) -> None:
    """The model that was selected is not the one at its place any more: said, never mixed up."""
    repo.put(
        "import os\nfrom madengine.utils.discover_models import CustomModel\nclass C(CustomModel):\n    def update_model(self): pass\n"
        "def list_models():\n    return [C(name='m%d' % os.getpid())]\n"
    )
    assert "must give the same models in the same order each time" in repo.error()
