# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tag grammar: by table, and against a naive second implementation."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.models import cards, tags


def entry(name: str, *words: str, directory: str = "") -> cards.Entry:
    """A model as a source would give it."""
    return cards.entry({"name": name, "tags": list(words)}, "models.json", directory, 0)


MODELS = [
    entry("dummy", "dummies", "group1"),
    entry("dummy2", "dummies", "group1", "group2"),
    entry("dummy3", "group2"),
    entry("team/root", "slashed"),
    entry("model1", "dummies", directory="dummy2"),
    entry("model2", "dummies", "batch", directory="dummy2"),
    entry("model3", "group2", directory="lonely"),
    entry("deep/model4", directory="lonely"),
    entry("odd:name=1", directory="lonely"),
]
DIRECTORIES = {"dummy2": True, "lonely": True, "empty": False}


def chosen(*texts: str) -> list[tuple[str, str]]:
    """What some tags select, as (name, args)."""
    choices, _warnings = tags.select(tags.parse_all(list(texts)), MODELS, DIRECTORIES)
    return [(choice.entry.name, choice.args) for choice in choices]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("dummy", ["dummy"]),
        ("group1", ["dummy", "dummy2"]),
        ("group2", ["dummy2", "dummy3", "lonely/model3"]),
        ("dummies", ["dummy", "dummy2", "dummy2/model1", "dummy2/model2"]),
        ("all", [model.name for model in MODELS]),
        ("dummy2/model2", ["dummy2/model2"]),
        ("dummy2/dummies", ["dummy2/model1", "dummy2/model2"]),
        ("dummy2/all", ["dummy2/model1", "dummy2/model2"]),
        ("team/root", ["team/root"]),
        ("team/all", ["team/root"]),
        ("team/slashed", ["team/root"]),
        ("lonely/deep/model4", ["lonely/deep/model4"]),
        ("lonely:model3", ["lonely/model3"]),
        ("lonely:deep/model4", ["lonely/deep/model4"]),
        ("lonely/odd:name=1", ["lonely/odd:name=1"]),
    ],
)
def test_selection(tag: str, expected: list[str]) -> None:
    """Each form of a tag selects what the reference says, without arguments, and the same with some."""
    assert chosen(tag) == [(name, "") for name in expected]
    assert chosen(tag + ":k=v:x") == [(name, " --k v --x") for name in expected]


@pytest.mark.parametrize(
    "tag",
    ["nothing", "model1", "Dummy", "/dummy", "dummy/", "//", "lonely/model1", "dummy2/nothing", "empty/all", "nowhere/all", "empty:model1"],
)
def test_what_selects_nothing_is_an_error_that_names_the_tag(tag: str) -> None:
    """Also with arguments."""
    for text in (tag, tag + ":k=v"):
        with pytest.raises(InvalidInput, match="No models found corresponding to the given tag: ") as caught:
            chosen(text)
        assert text in caught.value.message


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("m", ""),
        ("m:batch-size=32", " --batch-size 32"),
        ("m:a=1:b=2", " --a 1 --b 2"),
        ("m:a=b=c", " --a b c"),
        ("m:x", " --x"),
        ("m:--x", " ----x"),
        ("m::x::", " --x"),
        (" m : a = 1 : x ", " --a   1 --x"),
        ("m:$(touch pwned)=a;b", " --$(touch pwned) a;b"),
        ("m:text='a b'", " --text 'a b'"),
    ],
)
def test_args(text: str, args: str) -> None:
    """Extra parts become arguments as in madengine, literally and unquoted."""
    assert tags.parse(text).args == args
    assert tags.parse(text).selector == "m"


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (None, []),
        ("", []),
        ([], []),
        ([""], []),
        (" , ,", []),
        ("a", ["a"]),
        ("a, b ,c:x=1", ["a", "b", "c:x=1"]),
        (["a,b", "c"], ["a", "b", "c"]),
        (("a",), ["a"]),
        ([7, "a"], ["7", "a"]),
    ],
)
def test_lists_and_texts_with_commas(value: Any, texts: list[str]) -> None:
    """Lists and texts mean the same; empty tags are none."""
    assert [tag.text for tag in tags.parse_all(value)] == texts


@pytest.mark.parametrize(
    ("value", "named"), [({"a": 1}, "the object"), (5, "the number 5"), ([True], "true"), ([None], "null"), (":", "':'"), ("a\0b", "NUL")]
)
def test_no_tags_at_all(value: Any, named: str) -> None:
    """Other types, and a tag of nothing but colons, are refused by name."""
    with pytest.raises(InvalidInput, match="tag") as caught:
        tags.parse_all(value)
    assert named in caught.value.message


def test_ten_megabytes_are_refused_quickly() -> None:
    """The message is short, too; a tag that is merely long finds nothing, quickly."""
    began = time.process_time()
    with pytest.raises(InvalidInput) as caught:
        tags.parse_all("x" * 10_000_000)
    assert len(caught.value.message) < 400
    with pytest.raises(InvalidInput) as caught:
        tags.select(tags.parse_all("y" * 60_000), [entry("model%d" % number) for number in range(10_000)], {})
    assert len(caught.value.message) < 400
    assert time.process_time() - began < 20, "seconds where something quadratic takes hours"


def test_twice_the_same_is_counted_once_and_said() -> None:
    """With other arguments it is another entry."""
    choices, warnings = tags.select(tags.parse_all("group1,dummy,dummy:x"), MODELS, DIRECTORIES)
    assert [(choice.entry.name, choice.args) for choice in choices] == [("dummy", ""), ("dummy2", ""), ("dummy", " --x")]
    assert warnings == ["the tag 'dummy' selects dummy again, with the same arguments; counted once"]


def test_dir_and_name_with_a_colon_where_it_has_two_meanings() -> None:
    """A root model or a tag called DIR wins, as in madengine, and the other meaning is said."""
    choices, warnings = tags.select(tags.parse_all("dummy2:model1"), MODELS, DIRECTORIES)
    assert [(choice.entry.name, choice.args) for choice in choices] == [("dummy2", " --model1")]
    assert len(warnings) == 1
    assert "write dummy2/model1" in warnings[0]


@pytest.mark.parametrize(
    ("tag", "near"),
    [
        ("dumy", ["dummy"]),
        ("DUMMY", ["dummy"]),
        ("model2", ["dummy2/model2"]),
        ("lonly/model3", ["lonely/model3"]),
        ("dummy2/dumies", ["dummy2/dummies"]),
        ("lonli/all", ["lonely/all"]),
        ("gruop1", ["group1"]),
    ],
)
def test_near_matches(tag: str, near: list[str]) -> None:
    """Names, tags and directories that resemble a tag are offered, the best first."""
    found = tags.near_matches(tags.parse(tag), MODELS, DIRECTORIES)
    assert found[: len(near)] == near
    with pytest.raises(InvalidInput, match="Did you mean %s" % near[0]):
        chosen(tag)


@pytest.mark.parametrize(
    ("name", "typed", "shown"),
    [("caf\u00e9", "cafe\u0301", "caf\\xe9"), ("model\u200b1", "model1", "model\\u200b1"), ("modèle", "modele", "modèle")],
)
def test_names_that_look_alike_are_told_apart(name: str, typed: str, shown: str) -> None:
    """An accent as macOS writes it, a character that nobody sees."""
    with pytest.raises(InvalidInput) as caught:
        tags.select([tags.parse(typed)], [entry(name)], {})
    assert caught.value.message.endswith("Did you mean %s?" % shown)


def test_blanks_between_tags_are_explained() -> None:
    """madengine's guide writes `--tags dummy resnet`."""
    with pytest.raises(InvalidInput, match="Did you mean dummy,group1\\?"):
        chosen("dummy group1")
    with pytest.raises(InvalidInput) as caught:
        chosen("dummy nothing_like_it")
    assert "dummy,nothing" not in caught.value.message


def test_every_tag_without_a_match_is_named() -> None:
    """One error for all of them."""
    with pytest.raises(InvalidInput) as caught:
        chosen("nothing", "dummy", "void:x=1")
    assert caught.value.message.count("No models found corresponding to the given tag") == 2
    assert "void:x=1" in caught.value.message


def test_not_more_tags_than_a_person_reads_are_named() -> None:
    """A generated list of 20,000 names from another repository."""
    with pytest.raises(InvalidInput) as caught:
        chosen(*("none%d" % number for number in range(1000)), "none0")
    assert caught.value.message.count("No models found") == 20 and caught.value.message.endswith("and 980 more tags without a model")


@pytest.mark.parametrize("tag", ["empty/all", "empty/model", "empty", "empty:model"])
def test_a_directory_that_brings_no_models_is_told(tag: str) -> None:
    """As a submodule is that nobody checked out; it is never offered as a near match."""
    with pytest.raises(InvalidInput, match="scripts/empty has neither models.json nor get_models_json.py; is it a submodule"):
        chosen(tag)
    with pytest.raises(InvalidInput) as caught:
        chosen("empti/all")
    assert "empty/all" not in caught.value.message


def test_a_folder_of_scripts_is_no_riddle() -> None:
    """The model is called nearly like the folder of its scripts, which needs no cards."""
    with pytest.raises(InvalidInput) as caught:
        tags.select([tags.parse("bert")], [entry("pyt_bert")], {"bert": False})
    assert caught.value.message == "No models found corresponding to the given tag: bert. Did you mean pyt_bert?"
    with pytest.raises(InvalidInput, match="scripts/bert has neither .* checked out\\? Did you mean pyt/bert\\?"):
        tags.select([tags.parse("bert/bert")], [entry("bert", directory="pyt")], {"bert": False, "pyt": True})


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ("a/b,c/d:x=1", {"a", "c"}),
        ("a/b,c", set()),
        ("", set()),
        ("a/b/c", set()),
        ("/a", set()),
        ("a/", set()),
        ("a/all:k=v", {"a"}),
        ("a:b", set()),
    ],
)
def test_scopes(texts: str, expected: set[str]) -> None:
    """Only if all tags are scoped can directories be left out."""
    assert tags.scopes(tags.parse_all(texts)) == expected


WORDS = st.sampled_from(["a", "b", "ab", "all", "d", "e", "A"])
NAMES = st.one_of(WORDS, st.tuples(WORDS, WORDS).map("/".join))
RAW_MODELS = st.lists(
    st.tuples(st.sampled_from(["", "d", "e"]), NAMES, st.lists(st.one_of(WORDS, NAMES), max_size=3)),
    max_size=6,
    unique_by=lambda raw: raw[:2],
)
PIECES = st.one_of(WORDS, NAMES, st.sampled_from(["k=v", "x", " ", "", "=", "a=b=c", "/a", "d/", "d/b/a", "--x"]))
TAGS = st.lists(st.lists(PIECES, min_size=1, max_size=4).map(":".join), min_size=1, max_size=3)


def by_hand(models: list[cards.Entry], texts: list[str], directories: list[str]) -> list[tuple[str, str]] | None:
    """The grammar once more, as plainly as the reference's table puts it; None stands for an error."""
    found: list[tuple[str, str]] = []
    for text in texts:
        parts = [part.strip() for part in text.split(":") if part.strip()]
        if not text.strip():
            continue
        if not parts:
            return None
        selector, extras = parts[0], parts[1:]
        pieces = selector.split("/")
        hits = []
        for model in models:
            if len(pieces) == 2 and pieces[0] and pieces[1]:
                inside = model.name.split("/")[0] == pieces[0] and "/" in model.name
                hit = inside and (pieces[1] == "all" or pieces[1] in model.tags or model.name == selector)
            else:
                hit = selector in ("all", model.name) or selector in model.tags
            if hit:
                hits.append(model)
        if not hits and extras and selector in directories:
            hits = [model for model in models if model.directory == selector and model.name == selector + "/" + extras[0]]
            extras = extras[1:]
        if not hits:
            return None
        args = ""
        for extra in extras:
            args += " --" + " ".join(extra.split("="))
        found += [(model.name, args) for model in hits]
    return [item for position, item in enumerate(found) if item not in found[:position]]


@settings(max_examples=400, deadline=None)
@given(RAW_MODELS, TAGS, st.sets(st.sampled_from(["d", "e", "a"])))
@example([("d", "a", []), ("", "d", [])], ["d:a"], {"d"})
@example([("d", "a", [])], ["d:a:k=v"], {"d"})
@example([("d", "a", ["b"])], ["d/b:k=v", "d/a:k=v"], {"d"})
def test_against_a_naive_implementation(raw: list[tuple[str, str, list[str]]], texts: list[str], directories: set[str]) -> None:
    """Whatever the models and the tags: both implementations select the same, in the same order, or both refuse."""
    models = [entry(name, *words, directory=directory) for directory, name, words in raw]
    models = [model for position, model in enumerate(models) if model.name not in [other.name for other in models[:position]]]
    expected = by_hand(models, texts, sorted(directories))
    try:
        choices, _warnings = tags.select([tags.parse(text) for text in texts if text.strip()], models, dict.fromkeys(directories, True))
    except InvalidInput:
        assert expected is None
    else:
        assert [(choice.entry.name, choice.args) for choice in choices] == expected


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_parses_or_is_refused_in_one_sentence(text: str) -> None:
    """Nothing but InvalidInput, whatever is typed; what was typed stays in the tag."""
    try:
        for tag in tags.parse_all(text):
            assert tag.text in text
            assert tag.selector == tag.selector.strip() != ""
            assert tag.args.count(" --") >= len(tag.extras)
    except InvalidInput as error:
        assert "\n" not in error.message
