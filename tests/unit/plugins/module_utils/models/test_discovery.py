# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Discovery over whole repositories: the sources, the reference's black-box cases, and what is wrong with files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.models import discovery

CUSTOM = """
from madengine.utils.discover_models import CustomModel

class Computed(CustomModel):
    def update_model(self):
        self.dockerfile, self.scripts = "../../docker/dummy", "run.sh"

def list_models():
    plain = CustomModel(name="model3", dockerfile="../../docker/dummy", scripts="run.sh", tags=["dummies", "dummy_test_group_3"])
    return [plain, Computed(name="model4", tags=["dummies", "dummy_test_group_3"])]
"""


def card(name: str, *words: str, **more: Any) -> dict[str, Any]:
    """A root card as people write it."""
    return {
        "name": name,
        "dockerfile": "docker/dummy",
        "scripts": "scripts/dummy/run.sh",
        "n_gpus": "1",
        "tags": list(words),
        "args": "",
        **more,
    }


class Repo:
    """A repository in the making."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir()

    def write(self, path: str, content: Any) -> Path:
        """Write text, or anything else as JSON."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return file

    def discover(self, tags: Any = "", **options: Any) -> dict[str, Any]:
        """What discovery says about it."""
        return discovery.discover(str(self.root), tags, **options)

    def error(self, tags: Any = "", **options: Any) -> str:
        """The message with which discovery refuses it."""
        with pytest.raises(InvalidInput) as caught:
            self.discover(tags, **options)
        return caught.value.message

    def selected(self, tags: Any) -> list[tuple[str, str]]:
        """(name, args) of the selected models."""
        return [(model["name"], model["args"]) for model in self.discover(tags)["models"]]


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """An empty repository."""
    return Repo(tmp_path / "repo")


@pytest.fixture
def mad(repo: Repo) -> Repo:
    """The shape of madengine's own fixture: 34 root models, two in a static directory, two in a custom one; 36 dummies."""
    root = [
        card("dummy", "dummies", "dummy_group_1", "dummy_test_group_1"),
        card("dummy2", "dummies", "dummy_group_1", "dummy_group_2", timeout=360),
    ]
    root += [
        card("dummy3", "dummies", "dummy_group_2"),
        card("dummy_commas", tags="dummies, odd"),
        card("bert", "nlp"),
        card("gpt2", "nlp"),
    ]
    root += [card("dummy_more_%d" % number, "dummies") for number in range(28)]
    repo.write("models.json", root)
    repo.write("scripts/dummy/run.sh", "")
    repo.write("scripts/common/tools.json", {})
    static = {"dockerfile": "../../docker/dummy", "scripts": "run.sh", "args": "", "tags": ["dummies", "dummy_test_group_2"]}
    repo.write("scripts/dummy2/models.json", [{"name": "model1", **static}, {"name": "model2", **static}])
    repo.write("scripts/dummy3/get_models_json.py", CUSTOM)
    return repo


def plain(*names: str) -> list[tuple[str, str]]:
    """Names without arguments."""
    return [(name, "") for name in names]


def test_case_1_all_names(mad: Repo) -> None:
    """38 names, root first."""
    found = mad.discover()
    assert found["models"] == []
    assert len(found["names"]) == 38
    assert found["names"][:3] == ["dummy", "dummy2", "dummy3"]
    assert found["names"][-4:] == ["dummy2/model1", "dummy2/model2", "dummy3/model3", "dummy3/model4"]
    assert found["warnings"] == []


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        pytest.param("dummy_group_1", plain("dummy", "dummy2"), id="3"),
        pytest.param("dummy_group_1,dummy_group_2", plain("dummy", "dummy2", "dummy3"), id="4: twice is once"),
        pytest.param("dummy2/model2", plain("dummy2/model2"), id="5"),
        pytest.param("dummy2/model2:batch-size=32", [("dummy2/model2", " --batch-size 32")], id="7"),
        pytest.param("dummy3/all", plain("dummy3/model3", "dummy3/model4"), id="8"),
        pytest.param("dummy3/all:k=v", [("dummy3/model3", " --k v"), ("dummy3/model4", " --k v")], id="9: works here"),
        pytest.param("dummy2:dummy_2", [("dummy2", " --dummy_2")], id="11: as implemented"),
        pytest.param("dummy3:dummy_3:batch_size=512:in=32", [("dummy3", " --dummy_3 --batch_size 512 --in 32")], id="11b"),
        pytest.param(
            "dummy_test_group_1,dummy_test_group_2,dummy_test_group_3",
            plain("dummy", "dummy2/model1", "dummy2/model2", "dummy3/model3", "dummy3/model4"),
            id="16",
        ),
        pytest.param("odd", plain("dummy_commas"), id="19"),
        pytest.param(["dummy", "dummy2/dummies"], plain("dummy", "dummy2/model1", "dummy2/model2"), id="list"),
    ],
)
def test_reference_cases(mad: Repo, tags: Any, expected: list[tuple[str, str]]) -> None:
    """The black-box cases of the reference; where ours differ on purpose, the id says so."""
    assert mad.selected(tags) == expected


def test_reference_cases_about_many(mad: Repo) -> None:
    """12: all 38. 15: the 36 that are tagged dummies, each with the argument."""
    assert len(mad.selected("all")) == 38
    dummies = mad.selected("dummies:x=1")
    assert len(dummies) == 36
    assert {args for _name, args in dummies} == {" --x 1"}


def test_case_5_paths_of_a_directory_model(mad: Repo) -> None:
    """Seen from the repository."""
    (model,) = mad.discover("dummy2/model2")["models"]
    assert (model["dockerfile"], model["scripts"], model["source"]) == (
        "docker/dummy",
        "scripts/dummy2/run.sh",
        "scripts/dummy2/models.json",
    )


def test_case_13_nothing(mad: Repo) -> None:
    """The tag is named, and what resembles it."""
    assert mad.error("nothing") == "No models found corresponding to the given tag: nothing. Leave the tags out to list all names."
    assert "Did you mean dummy_group_1 or dummy_group_2" in mad.error("dummy,dummy_grup_1")
    assert "dummy2/model2" in mad.error("model2")


def test_case_17_no_models_json(repo: Repo) -> None:
    """The file and the repository are named."""
    assert repo.error().startswith("models.json file not found in %s" % repo.root)
    with pytest.raises(InvalidInput, match="is not a directory"):
        discovery.discover(str(repo.root / "nowhere"), "")


@pytest.mark.parametrize("tags", ["dummy3/model3,dummy_test_group_3", "dummy3/model4,dummy3/model4:k=v,dummy_test_group_3"])
def test_bug_25_prefixes_are_put_once(mad: Repo, tags: str) -> None:
    """A custom model selected twice keeps its paths, plain or computed."""
    for model in mad.discover(tags)["models"]:
        assert (model["dockerfile"], model["scripts"]) == ("docker/dummy", "scripts/dummy3/run.sh")


def test_the_same_model_twice(mad: Repo) -> None:
    """With the same arguments once, with a warning; with others it is two."""
    found = mad.discover("dummy,dummy,dummy:x=1")
    assert [(model["name"], model["args"]) for model in found["models"]] == [("dummy", ""), ("dummy", " --x 1")]
    assert found["warnings"] == ["the tag 'dummy' selects dummy again, with the same arguments; counted once"]


def test_a_colon_where_it_is_unambiguous(mad: Repo) -> None:
    """As the command line guide writes it: no root model and no tag is called like the directory."""
    mad.write("scripts/family/models.json", [card("small"), card("big")])
    assert mad.selected("family:small:k=v") == [("family/small", " --k v")]
    assert "given tag: family:none" in mad.error("family:none")
    assert "given tag: common:small" in mad.error("common:small")
    mad.write("scripts/other/models.json", [card("one", "family")])
    found = mad.discover("family:small")
    assert [(model["name"], model["args"]) for model in found["models"]] == [("other/one", " --small")]
    assert "write family/small" in found["warnings"][0]


def test_directories_are_sorted_and_need_no_models(repo: Repo) -> None:
    """Files beside them and directories without models do not matter."""
    repo.write("models.json", [])
    for name in ("b", "a", "c"):
        repo.write("scripts/%s/models.json" % name, [card("m")])
    repo.write("scripts/models.json", "no JSON at all")
    repo.write("scripts/empty/deeper/models.json", "nor this")
    assert repo.discover()["names"] == ["a/m", "b/m", "c/m"]


def test_no_scripts_directory(repo: Repo) -> None:
    """Not an error: there may be no directory models."""
    repo.write("models.json", [card("m")])
    assert repo.discover("m")["names"] == ["m"]


def test_both_files_in_one_directory(mad: Repo) -> None:
    """An error for whoever needs the directory."""
    mad.write("scripts/dummy2/get_models_json.py", CUSTOM)
    assert "Both models.json and get_models_json.py found in scripts/dummy2" in mad.error("dummy")
    assert mad.selected("dummy3/model3") == plain("dummy3/model3")


def test_a_scoped_tag_reads_only_its_directory(mad: Repo) -> None:
    """What is broken elsewhere does not matter, and nothing elsewhere is run."""
    marker = mad.root.parent / "ran"
    mad.write("scripts/broken/models.json", "{")
    mad.write("scripts/runs/get_models_json.py", "open(%r, 'w')\n" % str(marker))
    assert mad.selected("dummy2/all,dummy3/model3:k=v") == [*plain("dummy2/model1", "dummy2/model2"), ("dummy3/model3", " --k v")]
    assert mad.discover("dummy2/all")["names"][-1] == "dummy2/model2"
    assert not marker.exists()
    assert "scripts/broken/models.json" in mad.error("dummy2/all,dummy")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"name": "a",}]', "models.json: not valid JSON: .*line 1 column 1[45]"),
        ('[\n  {"name": "a"\n  "args": ""}\n]', "models.json: not valid JSON: Expecting ',' delimiter: line 3 column 3"),
        ("", r"models.json: the file is empty; expected a list of model cards, \[\] for none"),
        (" \n", "models.json: the file is empty"),
        ("[NaN]", "models.json: not valid JSON: NaN"),
        ("[" * 100_000, "models.json: not valid JSON: .*recursion"),
        ('{"name": "a"}', "models.json: expected a list of model cards, got the object"),
        ('"a"', "models.json: expected a list of model cards, got the text 'a'"),
        ("null", "models.json: expected a list of model cards, got null"),
        ('["a"]', "models.json: entry 1: expected an object"),
        ('[{"name": "a"}, {"args": ""}]', "models.json: entry 2, key 'name': expected a text, the key is missing"),
    ],
)
def test_broken_files(repo: Repo, text: str, said: str) -> None:
    """The file and the place are named."""
    repo.write("models.json", text)
    with pytest.raises(InvalidInput, match=said):
        repo.discover("a")


def test_files_that_are_no_text(repo: Repo) -> None:
    """Bytes that are no UTF-8, a directory, a pipe, a file too large: one sentence each, at once. A byte order mark is fine."""
    file = repo.write("models.json", [card("a")])
    for make, said in ((_bytes, "not UTF-8 text: 'utf-8' codec"), (_pipe, "not found"), (_sparse, "expected at most 64 MiB")):
        file.unlink()
        make(file)
        assert said in repo.error("a")
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps([card("a")]).encode())
    assert repo.selected("a") == plain("a")
    os.mkfifo(repo.write("scripts/d/x", "").parent / "models.json")
    assert "scripts/d/models.json: expected a file" in repo.error("a")


def _bytes(path: Path) -> None:
    path.write_bytes(b'["\xff"]')


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, discovery.LARGEST_FILE + 1)


def test_ten_megabytes_of_text_in_a_card(repo: Repo) -> None:
    """Refused quickly and shortly when selected; of no interest when not."""
    repo.write("models.json", [card("big", args="x" * 10_000_000), card("small")])
    began = time.process_time()
    assert len(repo.error("big")) < 500
    assert repo.selected("small") == plain("small")
    assert time.process_time() - began < 20, "seconds where something quadratic takes hours"


def test_a_broken_card_stops_only_itself(repo: Repo) -> None:
    """Unless it is selected."""
    repo.write("models.json", [{"name": "bad", "tags": ["t"]}, card("good", "u")])
    assert repo.selected("good") == plain("good")
    assert repo.discover()["names"] == ["bad", "good"]
    assert repo.error("t").startswith("models.json: model 'bad': the keys 'dockerfile', 'scripts', 'args' are missing")


def test_the_same_card_twice(repo: Repo) -> None:
    """Harmless, and said."""
    repo.write("models.json", [card("a"), card("b"), card("a")])
    found = repo.discover("all")
    assert [model["name"] for model in found["models"]] == found["names"] == ["a", "b"]
    assert found["warnings"] == ["models.json: the card of model 'a' stands there twice; counted once"]


def test_different_cards_of_one_name(repo: Repo) -> None:
    """An error for whoever selects it, a warning when listing, nothing to others."""
    repo.write("models.json", [card("a"), card("b"), card("a", timeout=5), card("d/m")])
    repo.write("scripts/d/models.json", [card("m", dockerfile="x")])
    assert "2 different cards have the name 'a' (models.json entry 1, models.json entry 3)" in repo.error("a,b")
    assert "have the name 'd/m' (models.json entry 4, scripts/d/models.json entry 1)" in repo.error("d/all")
    found = repo.discover()
    assert found["names"] == ["a", "b", "d/m"]
    assert len(found["warnings"]) == 2
    assert repo.discover("b")["warnings"] == []


def test_a_key_twice_in_one_card(repo: Repo) -> None:
    """JSON would swallow it."""
    repo.write("models.json", '[{"name": "a", "dockerfile": "d", "scripts": "s", "args": "--x", "args": "--y"}]')
    found = repo.discover("a")
    assert found["models"][0]["args"] == "--y"
    assert found["warnings"] == ["models.json: model 'a': 'args' stands there twice; the last one counts"]


@pytest.mark.parametrize("name", ["with blank", "$(touch pwned)", "quote'\"", "é", "semi;colon", "a.b-c"])
@pytest.mark.parametrize("source", ["models.json", "get_models_json.py"])
def test_hostile_names_of_directories(repo: Repo, name: str, source: str) -> None:
    """They work literally, also for the process that runs in them."""
    repo.write("models.json", [])
    repo.write("scripts/%s/%s" % (name, source), [card("m")] if source == "models.json" else CUSTOM.replace("model3", "m"))
    (model,) = repo.discover([name + "/m"])["models"]
    assert model["name"] == name + "/m"
    assert model["source"] == "scripts/%s/%s" % (name, source)
    assert not (repo.root / "pwned").exists()


def test_a_newline_in_the_name_of_a_directory(repo: Repo) -> None:
    """One clear error."""
    repo.write("models.json", [])
    repo.write("scripts/a\nb/models.json", [card("m")])
    assert "control character" in repo.error("all")


def test_a_linked_directory(repo: Repo, tmp_path: Path) -> None:
    """Is a directory."""
    repo.write("models.json", [])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "get_models_json.py").write_text(CUSTOM)
    (repo.root / "scripts").mkdir()
    (repo.root / "scripts" / "linked").symlink_to(tmp_path / "elsewhere")
    assert repo.selected("linked/model4") == plain("linked/model4")


def test_links_that_lead_nowhere(repo: Repo) -> None:
    """A link to itself is no directory; where the models should be, a broken link is no reason to have none."""
    repo.write("models.json", [card("x")])
    (repo.root / "scripts").mkdir()
    (repo.root / "scripts/self").symlink_to("self")
    (repo.root / "scripts/gone").symlink_to("nowhere")
    assert repo.discover("all")["names"] == ["x"]
    for name in ("models.json", "get_models_json.py"):
        link = repo.root / "scripts/team" / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to("../../private/" + name)
        with pytest.raises(InvalidInput, match="scripts/team/%s: expected a file, found something else, or a link" % name):
            repo.discover("all")
        link.unlink()


def test_a_directory_that_cannot_be_read_is_not_taken_for_an_empty_one() -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own folder is closed to other users
    try:
        folder.chmod(0o755)
        repo = Repo(folder / "repo")
        repo.write("models.json", "[]")
        for name in ("team", "open"):
            repo.write("scripts/%s/models.json" % name, [card("m")])
        (repo.root / "scripts/team").chmod(0)
        user = os.geteuid()
        if not user:
            os.seteuid(65534)
        try:
            with pytest.raises(InvalidInput, match="scripts/team/models.json cannot be read: Permission denied"):
                repo.discover("all")
            assert repo.selected("open/all") == plain("open/m"), "what is not asked for is nobody's business"
        finally:
            os.seteuid(user)
            (repo.root / "scripts/team").chmod(0o700)
    finally:
        shutil.rmtree(folder)


def test_a_comma_in_a_name_is_said(repo: Repo) -> None:
    """No tag can name such a model."""
    repo.write("models.json", [card("a,b", "words")])
    found = repo.discover("words")
    assert found["names"] == ["a,b"] and "'a,b': its name holds a comma" in found["warnings"][0]


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_time_limit_must_be_one(mad: Repo, timeout: float) -> None:
    """Nothing is accepted without effect."""
    assert "timeout: expected a number of seconds above 0" in mad.error("dummy", timeout=timeout)


def test_the_repository_stays_as_it_was(mad: Repo, snapshot: Callable[[Path], dict[str, tuple[int, bytes]]]) -> None:
    """No bytecode, no cache, no other file; not even times of directories change."""
    mad.write("scripts/dummy3/helper.py", "X = 1\n")
    mad.write(
        "scripts/dummy3/get_models_json.py",
        "import helper\nimport subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import helper'])\n" + CUSTOM,
    )
    before = snapshot(mad.root)
    mad.discover("all")
    mad.discover("dummy3/all", cache_dir=str(mad.root.parent / "cache"))
    assert snapshot(mad.root) == before


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, tuple[int, bytes]]]:
    """What a directory holds, with times."""

    def take(root: Path) -> dict[str, tuple[int, bytes]]:
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in [root, *root.rglob("*")]}

    return take


def test_a_listing_says_what_is_wrong_with_every_card(tmp_path: Path) -> None:
    """Nothing runs yet: all at once, and none stops the others."""
    models = [
        {"name": "good", "dockerfile": "d", "scripts": "s", "args": "", "n_gpus": "0", "tags": []},
        {"name": "typo", "dockerfile": "d", "scripts": "s", "args": "", "n_gpus": "0", "tags": [], "timeuot": 2},
        {"name": "type", "dockerfile": "d", "scripts": "s", "args": "", "tags": [], "n_gpus": ["0"]},
    ]
    (tmp_path / "models.json").write_text(json.dumps(models))
    found = discovery.discover(str(tmp_path), [])
    assert found["names"] == ["good", "typo", "type"] and found["models"] == []
    told = " | ".join(found["warnings"])
    assert "timeuot" in told and "model 'type', key 'n_gpus'" in told and "good" not in told


def test_a_broken_card_leaves_its_place(repo: Repo) -> None:
    """Who asks for them gets what is wrong by place; in the card's place stands a blank one that nothing can be wrong with."""
    repo.write("models.json", [card("good", "t"), card("bad", "t", n_gpus=1.5, args="x"), {"name": "less", "tags": ["t"]}])
    assert "n_gpus" in repo.error("t")
    broken: dict[int, InvalidInput] = {}
    models = repo.discover("t", broken=broken)["models"]
    assert [model["name"] for model in models] == ["good", "bad", "less"] and sorted(broken) == [1, 2]
    assert broken[1].message == repo.error("bad") and broken[2].message == repo.error("less")
    assert set(models[1]) == set(models[0]), "a card like any other"
    assert (models[1]["args"], models[1]["scripts"], models[1]["tags"], models[1]["source"]) == ("", "", ["t"], "models.json")
