# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A login that is not root, and secrets: what root in a container or the model itself left must cost no record, and no secret comes home."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Dict

import pytest

from ansible_collections.mad.engine.tests.support import components
from ansible_collections.mad.engine.tests.support.bench_host import PRINT, BenchHost, MakeHost, make_host

for _late in ("gzip", "encodings.utf_8_sig"):  # imported when a Python below /root is closed to us already: by tarfile, by reading JSON
    importlib.import_module(_late)

__all__ = ["make_host"]  # a fixture
SECRET = "top-secret-value"
NOBODY = 65534
RUNTIMES = ("host", "docker")
MODELS = {  # name: (script, timeout)
    "timeout": ("echo %s; sleep 300\n" % SECRET, 2),
    "log": ("echo %s\n" % SECRET + PRINT + "chmod 000 $io/model.log\n", 60),
    "artifact": (PRINT + "echo %s > a_output.csv; chmod 444 a_output.csv; mkdir d; touch d/x; chmod 000 d\n" % SECRET, 60),
    "folders": (PRINT + "chmod 000 $io/artifacts\n", 60),
    "all": (PRINT + "chmod 000 $io\n", 60),
}


def as_another_user(groups: list[int], work: Callable[[], Any]) -> Any:
    """Do work in a child process without root's rights; its answer travels as JSON."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgroups(groups)
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            sys.executable = components.which("python3") or sys.executable  # a virtual environment below /root is closed to others
            with os.fdopen(writer, "w") as stream:
                json.dump(work(), stream)
            status = 0
        except BaseException:  # noqa: BLE001 the parent sees the status, a person the words
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as stream:
        answer = stream.read()
    assert os.waitpid(pid, 0)[1] == 0, answer
    return json.loads(answer)


def run_all(base: Path, image: str, runtime: str) -> Dict[str, Any]:
    """Run the models as the user that we are; {model: {record, log, artifacts, left}}."""
    host = BenchHost(base, image=image)
    try:
        before = "io=/.mad\n" if runtime == "docker" else 'io=$(dirname "$(dirname "$PWD")")/io\n'
        ids = {name: host.run(before + script, runtime, timeout=limit, secret_env=["T"]) for name, (script, limit) in MODELS.items()}
        host.stage(secrets={"T": SECRET})
        host.start()
        found = host.wait(300)
        host.until(lambda: not host.folder.supervised())
        answer = {}
        for name, run_id in ids.items():
            attempt = host.folder.attempt(run_id, 1)
            texts = {path.name: path.read_text() for path in Path(attempt.file("artifacts")).iterdir()}
            left = [part for part in ("io", "work") if os.path.exists(attempt.file(part))]
            answer[name] = {"record": found[run_id], "log": host.log(run_id), "artifacts": texts, "left": left}
        return answer
    finally:
        host.close()


@pytest.fixture()
def open_folder() -> Iterator[Path]:
    """Give a folder that another user may work in (pytest's own are closed to others)."""
    path = Path(tempfile.mkdtemp(prefix="mad-rights-", dir="/var/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_login_that_is_not_root(open_folder: Path, request: pytest.FixtureRequest, runtime: str) -> None:
    image, groups = "", []
    if runtime == "docker":
        image = request.getfixturevalue("tiny_image")
        socket = Path((os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")[len("unix://") :])
        groups = [socket.stat().st_gid]
        if os.geteuid() == 0:
            socket.parent.chmod(socket.parent.stat().st_mode | 0o011)  # an engine of our own lies in a folder of root's
    (open_folder / "base").mkdir()
    (open_folder / "base").chmod(0o777)
    found = as_another_user(groups, lambda: run_all(open_folder / "base", image, runtime))
    classes = {name: entry["record"]["failure_class"] or "SUCCESS" for name, entry in found.items()}
    # On the bare host, a model that closes the driver's own folder keeps it from saying that anything began.
    closed = "launch" if runtime == "host" else "SUCCESS"
    assert classes == {"timeout": "timeout", "log": "SUCCESS", "artifact": "SUCCESS", "folders": "SUCCESS", "all": closed}, found
    assert SECRET not in json.dumps(found)
    assert found["log"]["log"].splitlines()[0] == "*" * len(SECRET)
    said, *rest = found["timeout"]["log"].splitlines()
    # A shell may say "Terminated" of the sleep that it waited for: whichever of the two the signal reaches first. Nothing else stands there.
    assert said == "*" * len(SECRET) and all("Terminated" in line for line in rest[:1]) and not rest[1:]
    assert found["artifact"]["artifacts"] == {"a_output.csv": "*" * len(SECRET) + "\n"}
    assert "1 artifacts held the value of a secret; it was masked" in found["artifact"]["record"]["notes"]
    assert [name for name, entry in found.items() if entry["left"]] == [], "nothing stays but logs, artifacts and the record"


def test_names_of_columns_are_masked_too(make_host: MakeHost) -> None:
    """A header of multiple_results becomes keys of the record, and columns of perf.csv."""
    host = make_host()
    script = 'printf "model,performance,metric,$T\\n1,2,x,3\\n" > r.csv\n'
    run_id = host.run(script, secret_env=["T"], multiple_results="r.csv")
    host.stage(secrets={"T": SECRET})
    host.start()
    record = host.wait()[run_id]
    assert record["metrics"][0]["extra"] == {"*" * len(SECRET): "3"}
    assert SECRET not in json.dumps(record)
