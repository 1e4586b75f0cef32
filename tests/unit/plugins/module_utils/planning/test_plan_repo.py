# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a repository cannot go to hosts costs its model a row, never the host's other models theirs."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.tests.support import plans
from ansible_collections.mad.engine.tests.support.plans import card, fails, host, one, runs


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return plans.repository(tmp_path)


def own(repo: Path, name: str) -> dict:
    """A card with a folder of its own."""
    (repo / "scripts" / name).mkdir()
    (repo / "scripts" / name / "run.sh").write_text("echo performance: 1 x\n")
    return card(name, scripts="scripts/%s/run.sh" % name)


def test_pipes_and_sockets_cost_their_own_model_only(repo: Path) -> None:
    models = [own(repo, "pipe"), own(repo, "socket"), own(repo, "deep")]
    os.mkfifo(repo / "scripts/pipe/p")
    (repo / "scripts/deep/a\nb").mkdir()
    os.mkfifo(os.fsencode(str(repo / "scripts/deep/a\nb")) + b"/\xff")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(repo / "scripts/socket")  # such a name has at most 108 bytes
        try:
            server.bind("s")
        finally:
            os.chdir(here)
        found = runs(repo, [*models, card("good")])
    fails(found[0], "invalid", "model pipe", "scripts/pipe/p is a pipe")
    fails(found[1], "invalid", "model socket", "scripts/socket/s is a socket")
    fails(found[2], "invalid", "model deep", "is a pipe")
    assert found[3]["outcome"] is None


def test_a_folder_that_is_a_link_out_of_the_repository(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "run.sh").write_text("echo\n")
    (repo / "scripts/out").symlink_to(outside)
    (repo / "scripts/alias").symlink_to("dummy")
    found = runs(repo, [card("out", scripts="scripts/out/run.sh"), card("alias", scripts="scripts/alias/run.sh")])
    fails(found[0], "invalid", "model out", "scripts/out is a link that leads out of the repository")
    assert found[1]["outcome"] is None


def test_links_inside_a_folder_are_files_like_any_other(repo: Path) -> None:
    model = own(repo, "links")
    for name, target in (("up", ".."), ("self", "self"), ("nowhere", "absent"), ("out", "/etc/hostname")):
        (repo / "scripts/links" / name).symlink_to(target)
    assert one(repo, [model])["outcome"] is None


def test_what_a_link_leads_to_is_content(repo: Path) -> None:
    """Models share scripts by links. A change there is another run; a link that stays inside the folder counts as itself."""
    (repo / "scripts/shared/deep").mkdir(parents=True)
    for name in ("run.sh", "deep/data.txt", "deep/more.txt"):
        (repo / "scripts/shared" / name).write_text(name)
    model = own(repo, "links")
    (repo / "scripts/links/run.sh").unlink()
    for name, target in (("run.sh", "../shared/run.sh"), ("data", "../shared/deep"), ("same.sh", "run.sh"), ("abs", repo / "scripts/shared/deep")):
        (repo / "scripts/links" / name).symlink_to(target)
    ids = []
    for change in ("", "run.sh", "deep/data.txt"):
        if change:
            (repo / "scripts/shared" / change).write_text("other")
        run = one(repo, [model])
        assert run["outcome"] is None
        ids.append(run["id"])
    assert len(set(ids)) == 3


def test_a_script_that_is_a_link_out_of_the_repository(repo: Path) -> None:
    """It would be the host's own file of that name."""
    model = own(repo, "links")
    (repo / "scripts/links/run.sh").unlink()
    (repo / "scripts/links/run.sh").symlink_to("/etc/hostname")
    fails(one(repo, [model]), "invalid", "scripts/links/run.sh is a link that leads out of the repository")


@pytest.mark.parametrize(
    "scripts,words",
    [
        ("scripts/dummy/run.sh --steps 3", "arguments belong into its key 'args'"),
        ("scripts/dummy/pipe.sh", "is no regular file"),
        ("scripts/dummy/lost.sh", "is no regular file"),
        ("scripts/dummy/absent.sh", "does not exist"),
    ],
)
def test_a_script_that_is_none(repo: Path, scripts: str, words: str) -> None:
    os.mkfifo(repo / "scripts/dummy/pipe.sh")
    (repo / "scripts/dummy/lost.sh").symlink_to("nowhere.sh")
    fails(one(repo, [card(scripts=scripts)]), "invalid", scripts, words)


def test_a_file_that_may_not_be_read(repo: Path) -> None:
    """The run of its model fails; the others are planned. A folder in it that cannot be read is not taken for an empty one."""
    with tempfile.TemporaryDirectory() as folder:  # not below tmp_path, which is root's alone
        os.chmod(folder, 0o755)
        other = plans.repository(Path(folder))
        models = [own(other, "secret"), own(other, "closed"), own(other, "image"), card("good")]
        (other / "scripts/secret/key").write_text("x")
        (other / "scripts/closed/data").mkdir()
        (other / "images").mkdir()
        models[2]["dockerfile"] = "images/x"
        for path in ("scripts/secret/key", "scripts/closed/data", "images"):
            (other / path).chmod(0)
        as_root = os.geteuid() == 0
        if as_root:  # root may read everything
            os.seteuid(65534)
        try:
            found = runs(other, models)
        finally:
            if as_root:
                os.seteuid(0)
            (other / "scripts/closed/data").chmod(0o700)
    fails(found[0], "invalid", "model secret", "scripts/secret/key cannot be read: Permission denied")
    fails(found[1], "invalid", "model closed", "scripts/closed/data cannot be read: Permission denied")
    fails(found[2], "invalid", "images cannot be listed: Permission denied")
    assert found[3]["outcome"] is None


def test_what_is_wrong_with_one_card_stands_in_its_row(repo: Path) -> None:
    """Discovery leaves a blank card in its place; whatever else would be said of that is no news."""
    problem = InvalidInput("models.json: model 'bad', key 'n_gpus': expected a number")
    blank = dict(card("bad"), dockerfile="", scripts="", args="")
    plan = plans.make(repo, [blank, card("good")], broken={0: problem})
    bad, good = plan["runs"]
    assert bad["model"] == "bad" and bad["outcome"] == {"status": "FAILURE", "failure_class": "invalid", "reason": problem.message}
    assert good["outcome"] is None and len(plan["builds"]) == 1


def test_bad_args_name_where_they_stand(repo: Path) -> None:
    bad = dict(card(args="it's"), source="scripts/team/models.json")
    fails(one(repo, [bad]), "invalid", "scripts/team/models.json: model dummy: args cannot be split into words")
    fails(one(repo, hosts={"n1": host({"model_args": "it's"})}), "invalid", "model_args in mad_context cannot be split into words")
    wrong = dict(card(distributed={"nnodes": "two"}), source="models.json")
    fails(one(repo, [wrong]), "invalid", "models.json: model dummy: distributed.nnodes: expected a whole number")
