# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Model cards: the normal form, what is refused and how it is said."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.models import cards

MINIMAL = {"name": "m", "dockerfile": "docker/m", "scripts": "scripts/m/run.sh", "args": ""}


def complete(directory: str = "", tag_args: str = "", /, **keys: Any) -> dict[str, Any]:
    """The normal form of a minimal card with these keys."""
    card, _warnings = whole(directory, tag_args, **keys)
    return card


def whole(directory: str = "", tag_args: str = "", /, **keys: Any) -> tuple[dict[str, Any], list[str]]:
    """The same with its warnings."""
    source = "scripts/%s/models.json" % directory if directory else "models.json"
    return cards.complete(cards.entry({**MINIMAL, **keys}, source, directory, 0), tag_args)


def test_the_normal_form_of_a_minimal_card() -> None:
    """Every key that the other parts rely on is there."""
    assert complete() == {
        **MINIMAL,
        "tags": [],
        "n_gpus": "1",
        "skip_gpu_arch": [],
        "env_vars": {},
        "multiple_results": "",
        "additional_docker_run_options": "",
        "source": "models.json",
    }


@pytest.mark.parametrize(
    ("key", "given_value", "expected"),
    [
        ("n_gpus", 8, "8"),
        ("n_gpus", -1, "-1"),
        ("n_gpus", " 2 ", "2"),
        ("n_gpus", 2.0, "2"),
        ("n_gpus", 0, "0"),
        ("n_gpus", "", "1"),
        ("n_gpus", None, "1"),
        ("timeout", "360", 360),
        ("timeout", 360.0, 360),
        ("timeout", -1, -1),
        ("tags", "a, b ,,c", ["a", "b", "c"]),
        ("tags", ["a ", 7], ["a", "7"]),
        ("tags", None, []),
        ("skip_gpu_arch", "gfx90a, H100", ["gfx90a", "H100"]),
        ("skip_gpu_arch", ["gfx90a"], ["gfx90a"]),
        ("training_precision", 16, "16"),
        ("env_vars", {"A": "b", "N": 7, "F": 0.5}, {"A": "b", "N": "7", "F": "0.5"}),
        ("docker_build_arg", {"A": "b", "N": 7}, {"A": "b", "N": "7"}),
        ("multiple_results", None, ""),
        ("args", "--a 'b c' $(x) \n", "--a 'b c' $(x) \n"),
        ("resumable", True, True),
        ("deprecated", "True", True),
        ("distributed", {"launcher": "torchrun", "nnodes": 2}, {"launcher": "torchrun", "nnodes": 2}),
        ("log_error_patterns", ["a"], ["a"]),
        ("scripts", "./scripts//m/", "scripts/m"),
        ("dockercontext", "./docker", "./docker"),
        ("my_own", {"a": [1, None, True]}, {"a": [1, None, True]}),
    ],
)
def test_values_become_regular(key: str, given_value: Any, expected: Any) -> None:
    """What madengine takes is taken; unknown keys are kept as they are."""
    assert complete(**{key: given_value})[key] == expected


@pytest.mark.parametrize("key", ["timeout", "nnodes", "owner", "deprecated", "url"])
def test_null_means_unset(key: str) -> None:
    """Also for keys that have no default."""
    assert key not in complete(**{key: None})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("timeout", "1h", "expected a whole number of seconds, at most 1000000000, got the text '1h'"),
        ("timeout", True, "got true"),
        ("timeout", 10**12, "at most 1000000000, got the number 1000000000000"),
        ("docker_build_arg", ["A=1"], "expected an object, got the list"),
        ("docker_build_arg", {"A": {}}, "docker_build_arg"),
        ("timeout", 1.5, "got the number 1.5"),
        ("n_gpus", "two", "expected a whole number of GPUs, 0 or more, or -1 for all, got the text 'two'"),
        ("n_gpus", -2, "got the number -2"),
        ("n_gpus", True, "got true"),
        ("tags", {"a": 1}, "expected a list of texts or one text with commas, got the object"),
        ("tags", ["a", ["b"]], "expected a text, got the list"),
        ("args", ["--a"], "expected a text, got the list ['--a']"),
        ("args", True, "expected a text, got true"),
        ("owner", {}, "expected a text, got the object {}"),
        ("env_vars", ["A=1"], "expected an object"),
        ("env_vars", {"A B": "1"}, "key 'env_vars.A B': expected a name of letters"),
        ("env_vars", {"A": True}, 'key \'env_vars.A\': expected a text (write "1" or "true" in quotes), got true'),
        ("env_vars", {"A": None}, "got null"),
        ("deprecated", "perhaps", "expected true or false"),
        ("resumable", 1, "expected true or false, got the number 1"),
        ("log_error_patterns", "a", "expected a list of texts"),
        ("distributed", "torchrun", "expected an object, got the text 'torchrun'"),
        ("scripts", "", "expected the path of a script"),
        ("scripts", "/etc/passwd", "expected a path inside the repository, got the text '/etc/passwd'"),
        ("scripts", "../x.sh", "expected a path inside the repository"),
        ("scripts", "a/../../x.sh", "expected a path inside the repository"),
        ("dockerfile", "../../docker/x", "expected a path inside the repository"),
        ("dockercontext", "..", "expected a path inside the repository"),
        ("multiple_results", "../perf.csv", "expected a path inside the repository"),
        ("scripts", "a\0b", "expected a text without NUL bytes"),
        ("my_own", {"deep": ["\ud800"]}, "expected a text without NUL bytes and halves of surrogate pairs"),
    ],
)
def test_what_is_refused(key: str, value: Any, said: str) -> None:
    """The message names the file, the model, the key, what was expected and what was found, on one line."""
    with pytest.raises(InvalidInput) as caught:
        complete(**{key: value})
    assert caught.value.message.startswith("models.json: model 'm', key '%s" % key)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("key", ["dockerfile", "scripts", "args"])
def test_missing_keys_are_named(key: str) -> None:
    """Missing or null."""
    raw = {name: value for name, value in MINIMAL.items() if name != key}
    for card in (raw, {**raw, key: None}):
        with pytest.raises(InvalidInput, match="models.json: model 'm': the key '%s' is missing" % key):
            cards.complete(cards.entry(card, "models.json", "", 0), "")


def test_paths_of_directory_models() -> None:
    """Relative to their directory when written, to the repository when read."""
    card = complete("d", dockerfile="../../docker/m", scripts="run.sh")
    assert (card["name"], card["dockerfile"], card["scripts"]) == ("d/m", "docker/m", "scripts/d/run.sh")
    card = complete("d", dockerfile="", scripts="")
    assert (card["dockerfile"], card["scripts"]) == ("", "scripts/d")
    assert card["source"] == "scripts/d/models.json"


@pytest.mark.parametrize("key", ["dockerfile", "scripts"])
@pytest.mark.parametrize("value", ["../../../x", "/x", "../../.."])
def test_paths_of_directory_models_stay_inside(key: str, value: str) -> None:
    """Checked after the directory was put in front."""
    with pytest.raises(InvalidInput, match="scripts/d/models.json: model 'd/m', key '%s': expected a path inside the repository" % key):
        complete("d", **{key: value})


def test_args_of_the_tag_follow_those_of_the_card() -> None:
    """With the leading blank."""
    assert complete("", " --k v")["args"] == " --k v"
    assert cards.complete(cards.entry({**MINIMAL, "args": "--a 1"}, "models.json", "", 0), " --k v")[0]["args"] == "--a 1 --k v"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [({"is_deprecated": True}, True), ({"deprecated": True, "is_deprecated": False}, True), ({"deprecated": False}, False), ({}, None)],
)
def test_both_names_of_deprecated(keys: dict[str, bool], expected: bool | None) -> None:
    """Either makes a model deprecated."""
    assert complete(**keys).get("deprecated") is expected


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("script", "scripts"),
        ("Tags", "tags"),
        ("time-out", "timeout"),
        ("skip_gpu_archs", "skip_gpu_arch"),
        ("colour", ""),
        ("x" * 5000, ""),
    ],
)
def test_near_misses_of_keys_are_warned_about(key: str, near: str) -> None:
    """And kept all the same."""
    card, warnings = whole(**{key: "x"})
    assert card[key] == "x"
    assert warnings == (["models.json: model 'm': unknown key '%s'; did you mean '%s'?" % (key, near)] if near else [])


def test_a_key_that_is_ours_is_replaced_aloud() -> None:
    """`source` says where the card came from."""
    card, warnings = whole(source="https://example.com")
    assert card["source"] == "models.json"
    assert "the key 'source' is replaced" in warnings[0]


@pytest.mark.parametrize(
    "name",
    ["a", "A.b-c_d+1", "a/b.c/D", "name with blanks", "é模型", "$(touch pwned)", 'it\'s "quoted"; *', "-rf", ".hidden", "a:b", "x" * 200],
)
def test_names_that_work_literally(name: str) -> None:
    """Everything that can be a file's name and a table's cell."""
    assert complete(name=name)["name"] == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("..", "'..'"),
        ("a/../b", "'..'"),
        ("a//b", "empty part"),
        ("/a", "empty part"),
        ("a/", "empty part"),
        (".", "'.'"),
        ("a\nb", "control character"),
        ("a\x1b[31m", "control character"),
        ("a\0", "control character"),
        ("\ud800", "control character"),
        ("a\u2028b", "control character"),
        (" a", "blank"),
        ("a ", "blank"),
        ("x" * 201, "longer than 200 bytes"),
        ("é" * 101, "longer than 200 bytes"),
        ("x" * 10_000_000, "longer than 200 bytes"),
    ],
)
def test_names_that_are_refused(name: str, reason: str) -> None:
    """With the reason, shortly, on one line."""
    with pytest.raises(InvalidInput) as caught:
        cards.entry({**MINIMAL, "name": name}, "models.json", "", 2)
    assert caught.value.message.startswith("models.json: entry 3, key 'name': ")
    assert reason in caught.value.message
    assert len(caught.value.message) < 400
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("dummy", "entry 1: expected an object (a model card), got the text 'dummy'"),
        ([], "got the list []"),
        (None, "got null"),
        ({}, "entry 1, key 'name': expected a text, the key is missing"),
        ({"name": 7}, "entry 1, key 'name': expected a text, got the number 7"),
        ({"name": None}, "got null"),
        ({"name": "m", "tags": 5}, "model 'm', key 'tags': expected a list of texts"),
    ],
)
def test_entries_that_selection_cannot_read(raw: Any, said: str) -> None:
    """These stop discovery, whatever is selected."""
    with pytest.raises(InvalidInput) as caught:
        cards.entry(raw, "models.json", "", 0)
    assert said in caught.value.message


def test_texts_of_ten_megabytes() -> None:
    """A clear and short error, quickly, wherever they stand."""
    began = time.process_time()
    huge = "x" * 10_000_000
    for keys in ({"args": huge}, {"my_own": [{"a": huge}]}, {"env_vars": {"A": huge}}, {"my_own": {huge: 1}}, {huge: 1}):
        with pytest.raises(InvalidInput, match="at most 65536 characters, .*which has 10000000") as caught:
            complete(**keys)
        assert len(caught.value.message) < 500
    assert time.process_time() - began < 20, "seconds where something quadratic takes hours"


def test_the_input_is_not_changed() -> None:
    """A card can be completed for each of its tags."""
    raw = {**MINIMAL, "tags": ["a"], "timeout": "5"}
    entry = cards.entry(raw, "models.json", "", 0)
    first, _warnings = cards.complete(entry, " --a")
    second, _warnings = cards.complete(entry, " --b")
    assert raw == {**MINIMAL, "tags": ["a"], "timeout": "5"}
    assert (first["args"], second["args"]) == (" --a", " --b")


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
KEYS = st.sampled_from([*cards._READERS, "unknown", "source"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYS, JSON, max_size=6), st.sampled_from(["", "d"]))
@example({"n_gpus": 10**9}, "")
@example({"n_gpus": 1e300}, "")
@example({"n_gpus": 10**18 - 1}, "")
def test_any_json_is_a_card_in_normal_form_or_one_sentence(keys: dict[str, Any], directory: str) -> None:
    """Nothing but InvalidInput, and what comes out has the promised types and survives a second time unchanged."""
    try:
        card = complete(directory, **keys)
    except InvalidInput as error:
        assert "\n" not in error.message
        return
    assert all(
        isinstance(card[key], str)
        for key in ("name", "dockerfile", "scripts", "args", "n_gpus", "multiple_results", "additional_docker_run_options")
    )
    assert all(isinstance(word, str) for key in ("tags", "skip_gpu_arch") for word in card[key])
    assert all(isinstance(value, str) for value in card["env_vars"].values())
    assert isinstance(card.get("timeout", 0), int)
    json.dumps(card, allow_nan=False).encode("utf-8")
    assert not card["scripts"].startswith(("/", "../"))
    again = {key: value for key, value in card.items() if key != "source"}
    assert cards.complete(cards.entry(again, card["source"], "", 0), "")[0] == card
