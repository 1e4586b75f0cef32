# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mad.engine.run and what people set: secrets, every option of a container, what is refused by name, hostile input."""

from __future__ import annotations

import concurrent.futures
import csv
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.mad.engine.tests.support.bench_host import pgrep
from ansible_collections.mad.engine.tests.support.mad_repo import NUMBER, MadRepo, mad_repo
from ansible_collections.mad.engine.tests.support.play import Played, play
from ansible_collections.mad.engine.tests.support.sshd import Fleet

__all__ = ["mad_repo"]  # a fixture
pytestmark = pytest.mark.real


def until(ready: Callable[[], Any], seconds: float = 300) -> Any:
    """What `ready` gives as soon as it gives something."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "not within %d s" % seconds
        time.sleep(0.1)
    return ready()


def in_files(folder: Path, values: list[str]) -> list[str]:
    """Files below a folder that hold one of these values."""
    words = [word for value in values for word in ("-e", value)]
    return subprocess.run(["grep", "-rlaF", *words, str(folder)], capture_output=True, text=True, check=False).stdout.split()


def command_lines() -> str:
    """Every command line and environment of the machine's processes that is open to all users."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode("utf-8", "replace"))
        except OSError:
            continue
    return "\n".join(found)


# -- secrets -----------------------------------------------------------------------------------------------------------------------

SHOW = """\
echo $HF_TOKEN $MAD_SECRETS_ONE $MY_API_KEY $gitlab_USERNAME $gitlab_PASSWORD > /out/values
echo "my token is $HF_TOKEN, $MAD_SECRETS_ONE" ; echo "$MY_API_KEY $gitlab_PASSWORD" >&2
touch /out/ready
while [ ! -e /out/go ]; do sleep 0.1; done
"""


def test_secrets_reach_the_model_and_nothing_else(mad_repo: MadRepo, fleet: Fleet) -> None:
    values = {
        **{"HF_TOKEN": "hf_abcdefghij0123", "MAD_SECRETS_ONE": "from-the-environment", "MY_API_KEY": "key-of-env-vars-1"},
        **{"gitlab_USERNAME": "user-of-gitlab", "gitlab_PASSWORD": "pass-of-gitlab-2"},
    }
    out = mad_repo.home / "out"
    out.mkdir(mode=0o777)
    context = {
        "docker_env_vars": {"HF_TOKEN": values["HF_TOKEN"]},
        "env_vars": {"MY_API_KEY": values["MY_API_KEY"]},
        "docker_mounts": {"/out": str(out)},
    }
    fleet.add("n1", mad_context=context)
    mad_repo.inventory = fleet.write_inventory(mad_repo.home / "fleet.json")
    entry = {"username": values["gitlab_USERNAME"], "password": values["gitlab_PASSWORD"]}
    mad_repo.write("credential.json", json.dumps({"gitlab": entry, "unused": {"password": "never-asked-for-1"}}))
    mad_repo.model("secret", SHOW + NUMBER, cred="gitlab")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        playing = pool.submit(mad_repo.run, "secret", "-vvv", mad_live_output=True, env={"MAD_SECRETS_ONE": values["MAD_SECRETS_ONE"]})
        try:
            until(lambda: playing.done() or (out / "ready").exists())
            seen = command_lines()
            names = subprocess.run(
                ["docker", "ps", "--quiet", "--filter", "label=mad.campaign=c1"], capture_output=True, text=True, check=True
            )
            inspected = subprocess.run(["docker", "inspect", *names.stdout.split()], capture_output=True, text=True, check=False).stdout
        finally:
            (out / "go").touch()
        played: Played = playing.result()
    assert played.status == 0, played.output
    assert (out / "values").read_text().split() == list(values.values())
    assert mad_repo.mark in inspected
    secret = [*values.values(), "never-asked-for-1"]
    for where, text in {"output": played.output, "ps": seen, "docker inspect": inspected}.items():
        assert not [value for value in secret if value in text], where
    assert in_files(mad_repo.results, secret) == []
    assert in_files(mad_repo.home / "work", secret) == []
    log = mad_repo.log(mad_repo.record("secret"))
    hidden = {name: "*" * len(value) for name, value in values.items()}
    assert log.startswith("my token is {HF_TOKEN}, {MAD_SECRETS_ONE}\n{MY_API_KEY} {gitlab_PASSWORD}\n".format(**hidden)), log


# -- the container -----------------------------------------------------------------------------------------------------------------

PLACE = """\
echo "args: $*"; for word in "$@"; do echo "word: $word"; done
echo "pwd: $(pwd) files: $(ls | tr '\\n' ' ')"
echo "shm: $(df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2)"
echo "cpus: $(grep Cpus_allowed_list /proc/self/status | tr -d '\\t ')"
echo "mount: $(cat /given/file) $(touch /given/x 2>/dev/null || echo read-only)"
echo "vars: $QUOTED | $MAD_MODEL_NAME | $MAD_GPU_VENDOR | $MAD_RUNTIME_NGPUS | $MAD_GUEST_OS | $OF_CARD"
echo "common: $(cat ../scripts/common/test_echo.sh 2>/dev/null)"
echo "pre: $(cat from_pre)"
echo 'RuntimeError: of the pre-script does not count' > /dev/null
"""


def git(folder: Path, *words: str) -> str:
    """A git command in a folder."""
    known = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    return subprocess.run(["git", "-C", str(folder), *known, *words], check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path) -> str:
    """Make a folder a repository with one commit; returns it."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")
    return git(folder, "rev-parse", "HEAD")


def test_every_option_of_a_container(mad_repo: MadRepo) -> None:
    """What madengine's reference lists for a local run, in one play, and the repository is as it was."""
    given = mad_repo.home / "given"
    given.mkdir()
    (given / "file").write_text("inside")
    mad_repo.write("scripts/common/test_echo.sh", "the repository's own")
    mad_repo.write("scripts/side/before.sh", 'echo "RuntimeError: said by a pre-script"; echo "$1" > from_pre\n')
    mad_repo.write("scripts/side/after.sh", "echo after > post_output.csv\n")
    mad_repo.model(
        "place",
        PLACE + NUMBER,
        'ENTRYPOINT ["/bin/false"]',
        args=" --one 'two  words' \"$(id)\" ; é",
        env_vars={"OF_CARD": "card's own"},
        additional_docker_run_options="--shm-size 8m",
    )
    rows = "printf 'model,performance,metric,note\\n1,6.5,samples_per_sec,=cmd()\\n2,7.2,samples_per_sec,x\\n' > results.csv\n"
    mad_repo.model("rows", rows, multiple_results="results.csv")
    mad_repo.model("hung", "setsid sleep 98765 &\nsleep 98764\n", timeout=2)
    mad_repo.model("gpus", n_gpus="2")
    commit(mad_repo.folder)
    context = {
        "docker_mounts": {"/given:ro": str(given)},
        "docker_env_vars": {"QUOTED": 'it\'s "q" $(id) ; \\ é'},
        "docker_cpus": "0",
        "pre_scripts": [{"path": "scripts/side/before.sh", "args": "'first argument'"}],
        "post_scripts": [{"path": "scripts/side/after.sh"}],
    }
    played = mad_repo.run(mad_context=context, mad_runtime="docker")
    assert mad_repo.last_summary()["exit_code"] == 3, played.output
    _check_place(mad_repo)
    found = mad_repo.record("rows")
    assert [metric["row"] for metric in found["metrics"]] == ["1", "2"] and "results.csv" in found["files"]["artifacts"]
    assert mad_repo.record("hung")["failure_class"] == "timeout" and pgrep("sleep 9876") == []
    assert mad_repo.record("gpus")["failure_class"] == "placement"
    listed = subprocess.run(["docker", "ps", "--all", "--format", "{{.Image}}"], capture_output=True, text=True, check=True).stdout
    assert mad_repo.mark not in listed
    assert git(mad_repo.folder, "status", "--porcelain", "--ignored") == ""
    table = list(csv.DictReader((mad_repo.results / "c1" / "perf.csv").open(encoding="utf-8", newline="")))
    assert len(table) == 5 and not [cell for row in table for cell in row.values() if str(cell).startswith(("=", "+", "@"))]


def _check_place(repo: MadRepo) -> None:
    found = repo.record("place")
    assert found["status"] == "SUCCESS", found
    lines = dict(line.split(": ", 1) for line in repo.log(found).splitlines() if not line.startswith("word: "))
    words = [line[6:] for line in repo.log(found).splitlines() if line.startswith("word: ")]
    assert words == ["--one", "two  words", "$(id)", ";", "é"]
    assert lines["pwd"].startswith("/myworkspace/run_directory files: ") and "run.sh" in lines["pwd"] and "before.sh" in lines["pwd"]
    assert (lines["shm"], lines["cpus"]) == ("8192", "Cpus_allowed_list:0")
    assert lines["mount"] == "inside read-only"
    assert lines["vars"] == "it's \"q\" $(id) ; \\ é | %s_place | NONE | 0 | UBUNTU | card's own" % repo.mark
    assert lines["common"] == "the repository's own" and lines["pre"] == "first argument"
    assert "RuntimeError: said by a pre-script" in repo.log(found, "pre.log")
    assert "post_output.csv" in found["files"]["artifacts"]


def test_what_is_kept_when_it_is_asked_for(mad_repo: MadRepo, tmp_path: Path) -> None:
    """skip_model_run with keep_alive leaves a prepared container; a url model without a container runs in its clone, which stays."""
    name = mad_repo.model("kept", "echo never; " + NUMBER)
    played = mad_repo.run("kept", mad_keep_alive=True, mad_skip_model_run=True, mad_runtime="docker")
    assert played.status == 0, played.output
    found = mad_repo.record("kept")
    assert found["status"] == "SKIPPED", found
    shown = ["docker", "exec", found["target"]["container"], "ls", "/myworkspace/run_directory"]
    assert subprocess.run(shown, capture_output=True, text=True, check=True).stdout.split() == ["run.sh"]
    subprocess.run(["docker", "rm", "--force", found["target"]["container"]], check=True, capture_output=True)
    source = tmp_path / "source"
    source.mkdir()
    (source / "data.txt").write_text("cloned %s\n" % name)
    head = commit(source)
    mad_repo.model("cloned", "cat data.txt; pwd\n" + NUMBER, url="file://%s" % source)
    played = mad_repo.run("cloned", campaign="c2", mad_runtime="host", mad_keep_model_dir=True)
    assert played.status == 0, played.output
    found = mad_repo.record("cloned", campaign="c2")
    text, directory = mad_repo.log(found).splitlines()[:2]
    assert (text, os.path.basename(directory), found["git_commit"]) == ("cloned " + name, "source", head)
    assert os.path.exists(os.path.join(directory, "data.txt"))


# -- refused -----------------------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"mad_data_config": "data.json"}, "mad_data_config"),
    ({"mad_tools_config": "tools.json"}, "mad_tools_config"),
    ({"mad_force_mirror_local": "/data"}, "mad_force_mirror_local"),
    ({"mad_batch_manifest": "batch.json"}, "mad_batch_manifest"),
    ({"mad_use_image": "auto"}, "mad_use_image"),
    ({"mad_sys_env_details": True}, "mad_sys_env_details"),
    ({"mad_repeats_max": 9}, "mad_baseline"),
    ({"mad_repeats_max": 9, "mad_baseline": "last", "mad_wait": False}, "mad_wait"),
    ({"mad_repeats_max": 9, "mad_baseline": "nowhere"}, "mad_baseline nowhere: no such campaign"),
    ({"mad_context": {"tools": [{"name": "rocprof"}]}}, "tools"),
    ({"mad_context": {"data": {"x": {}}}}, "data"),
    ({"mad_context": {"gen_sys_env_details": True}}, "gen_sys_env_details"),
    ({"mad_context": {"slurm": {"partition": "gpu"}, "k8s": {"namespace": "x"}}}, "slurm"),
    ({"mad_context": {"deploy": "slurm", "slurm": {"partition": "gpu"}}}, "slurm"),
    ({"mad_context": {"deploy": "k8s"}, "mad_runtime": "host"}, "mad_runtime"),
    ({"mad_context": {"deploy": "local", "slurm": {"partition": "gpu"}}}, "deploy"),
    ({"mad_context": {"docker_mounts": {"/x": "../y"}}}, "docker_mounts"),
    ({"mad_context": {"docker_env_vars": {"A;B": "x"}}}, "docker_env_vars"),
    ({"mad_context": "{not a dict"}, "mad_context"),
    ({"mad_timeout": "soon"}, "mad_timeout"),
    ({"mad_timeout": -2}, "mad_timeout"),
    ({"mad_campaign": "../outside"}, "campaign"),
    ({"mad_registry": "host/$(id)"}, "mad_registry"),
    ({"mad_manifest": "/nowhere/build_manifest.json"}, "/nowhere/build_manifest.json"),
    ({"mad_tags": ""}, "neither mad_tags nor mad_manifest"),
    ({"mad_build_only": True}, "gpu_vendor"),
]


def test_refused_by_name_with_code_4(mad_repo: MadRepo) -> None:
    """Each of them by the planning step of the playbooks, before anything exists."""
    mad_repo.model("any")
    common = {"mad_repo": str(mad_repo.folder), "mad_results": str(mad_repo.results), "mad_tags": "any"}
    tasks: list[dict[str, Any]] = []
    for number, (variables, dummy) in enumerate(REFUSED):
        answer = "answer_%d" % number
        tasks.append({"mad.engine.campaign_plan": None, "vars": {**common, **variables}, "register": answer, "ignore_errors": True})
    listed = "{{ [%s] | to_json }}" % ", ".join("answer_%d" % number for number in range(len(REFUSED)))
    tasks.append({"ansible.builtin.copy": {"content": listed, "dest": str(mad_repo.home / "answers.json"), "mode": "0600"}})
    path = mad_repo.home / "refused.yml"
    path.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    played = play(str(path), mad_repo.home)
    assert played.status == 0, played.output
    answers = json.loads((mad_repo.home / "answers.json").read_text())
    for (variables, word), answer in zip(REFUSED, answers, strict=True):
        assert answer["failed"] and answer["exit_code"] == 4, (variables, answer)
        assert word in answer["msg"] and len(answer["msg"]) < 1000, (variables, answer["msg"])
    assert sorted(name for name in os.listdir(mad_repo.results) if not name.startswith(".")) == ["last-summary.json"]


def test_nothing_to_run_is_code_4_in_the_summary(mad_repo: MadRepo) -> None:
    mad_repo.model("any")
    played = mad_repo.run("", mad_summary_output=str(mad_repo.home / "s.json"))
    assert played.status == 2 and "neither mad_tags nor mad_manifest" in played.output
    assert mad_repo.last_summary()["exit_code"] == 4
    assert json.loads((mad_repo.home / "s.json").read_text())["exit_code"] == 4


# -- hostile input -----------------------------------------------------------------------------------------------------------------

HOSTILE = 'it\'s "q" $(touch {mark}) `touch {mark}` ;touch {mark}; ../../é\U0001f600 =1+1'


def test_hostile_input_is_literal_or_one_clear_error(mad_repo: MadRepo) -> None:
    """Host names, model names, args, context values: nothing of it reaches a shell, and the table opens safely."""
    trap = mad_repo.home / "trapped"
    text = HOSTILE.format(mark=trap)
    hosts = ["plain", "q'uote $(touch %s)" % trap.name, "=cmd|x", "ünï;code"]
    inventory = {"all": {"hosts": {name: {} for name in hosts}, "vars": {"ansible_connection": "local"}}}
    inventory["all"]["vars"]["ansible_python_interpreter"] = "/usr/bin/python3"
    mad_repo.inventory = mad_repo.home / "hosts.json"
    mad_repo.inventory.write_text(json.dumps(inventory))
    quoted = " '%s'" % text.replace("'", "'\\''")
    mad_repo.model("literal", 'printf "%s\\n" "$1" "$VALUE"\n' + NUMBER, args=quoted)
    mad_repo.model("formula", 'printf "model,performance,metric\\n=1+1,3,@unit\\n" > r.csv\n', multiple_results="r.csv")
    for name in ("=HYPERLINK(1)", "sp ace;$(id)'\"é"):
        mad_repo.cards.append({**mad_repo.cards[0], "name": mad_repo.mark + name, "args": ""})
        mad_repo.cards.append({**mad_repo.cards[0], "name": name + mad_repo.mark, "args": ""})
    mad_repo.save()
    variables = {
        "mad_context": {"docker_env_vars": {"VALUE": text + "\nsecond"}},
        "mad_runtime": "host",
        "mad_host_lock": str(mad_repo.home / "l"),
    }
    played = mad_repo.run("all", **variables)
    assert mad_repo.last_summary()["exit_code"] == 0, played.output[-6000:]
    assert not list(mad_repo.home.rglob("*trapped*"))
    records = mad_repo.records()
    assert len(records) == len(mad_repo.cards) * len(hosts) and {one["place"]["host"] for one in records} == set(hosts)
    for one in records:
        kind = one["model"].partition("_")[2] if one["model"].startswith(mad_repo.mark + "_") else "named"
        assert one["status"] == "SUCCESS", one
        if kind == "literal":
            assert mad_repo.log(one).startswith("%s\n%s\nsecond\n" % (text, text))
    perf = mad_repo.results / "c1" / "perf.csv"
    assert perf.stat().st_size < 1 << 20
    table = list(csv.DictReader(perf.open(encoding="utf-8", newline="")))
    assert len(table) == len(records)
    assert not [cell for row in table for cell in row.values() if str(cell).startswith(("=", "@", "+", "\t", "\r"))]


@pytest.mark.parametrize(("key", "value"), [("args", " " + "x" * (10 << 20)), ("scripts", "../../etc/passwd.sh"), ("name", "a\nb")])
def test_what_cannot_work_is_one_clear_error(mad_repo: MadRepo, key: str, value: str) -> None:
    """Ten megabytes of args, a path outside the repository, a name that no file can have: file, model and key are named."""
    name = mad_repo.model("wrong")
    mad_repo.cards[0][key] = value
    mad_repo.save()
    played = mad_repo.run()
    assert played.status == 2 and mad_repo.last_summary()["exit_code"] == 1
    said = mad_repo.last_summary()["problems"][0]
    assert said.startswith("models.json: ") and "'%s'" % key in said and (key == "name" or name in said), said
    assert len(played.output) < 10000
