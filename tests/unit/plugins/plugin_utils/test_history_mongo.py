# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Uploading to MongoDB over its wire protocol: twice, with madengine's options, with a login, to servers that say no."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.plugin_utils.history import mongo
from ansible_collections.mad.engine.plugins.plugin_utils.index import Index, database_url
from ansible_collections.mad.engine.tests.support.mongo import Mongo
from ansible_collections.mad.engine.tests.support.records import crash, success
from ansible_collections.mad.engine.tests.unit.plugins.plugin_utils.test_history_import import HEADER, line, written

WHAT = mongo.Upload("bench", "perf")


@pytest.fixture
def server() -> Iterator[Mongo]:
    with Mongo() as running:
        yield running


def upload(server: Mongo, documents: Any, **changes: Any) -> mongo.Answer:
    return mongo.upload(mongo.server(server.environment()), WHAT._replace(**changes), documents)


def history(tmp_path: Any, *records: Any) -> str:
    url = database_url(str(tmp_path))
    with Index(url) as index:
        index.add(records, 900.0)
    return url


def test_a_second_time_nothing_changes(server: Mongo, tmp_path: Any) -> None:
    url = history(tmp_path, success(1), crash(2))
    assert upload(server, mongo.of_history(url)) == mongo.Answer(2, 2, 0)
    before = json.dumps(server.collections, default=str)
    assert upload(server, mongo.of_history(url)) == mongo.Answer(2, 0, 0)
    assert json.dumps(server.collections, default=str) == before
    found = server.collections["bench.perf"][0]
    assert (found["model"], found["performance"], found["value"], found["created"], found["attempt"]) == ("dummy", 14164, 14164.0, 900.0, 1)
    assert found["_meta_uploaded_at"] == found["created_date"] and found["run_id"] == "0" * 15 + "1"


def test_another_campaign_overwrites_nothing(server: Mongo, tmp_path: Any) -> None:
    url = history(tmp_path, success(1), success(1, campaign="other"))
    assert upload(server, mongo.of_history(url)).inserted == 2
    history(tmp_path, crash(1))
    assert upload(server, mongo.of_history(url)) == mongo.Answer(2, 0, 1)
    assert len(server.collections["bench.perf"]) == 2


def test_files_of_madengine_keep_their_history(server: Mongo, tmp_path: Any) -> None:
    path = written(
        tmp_path / "a", HEADER, line(performance="1"), line(performance="2"), line("z", "", "FAILURE", additional_docker_run_options="[1]")
    )
    assert upload(server, mongo.of_files([path]), batch_size=2) == mongo.Answer(3, 3, 0)
    assert upload(server, mongo.of_files([str(tmp_path / "a")])) == mongo.Answer(3, 0, 0)
    assert server.collections["bench.perf"][2]["additional_docker_run_options"] == [1]


def test_madengine_s_own_key_on_request(server: Mongo, tmp_path: Any) -> None:
    path = written(tmp_path / "a", HEADER, line(performance="1"), line(performance="2"))
    assert upload(server, mongo.of_files([path]), unique_key=["model"]) == mongo.Answer(2, 1, 1)
    assert server.indexes["bench.perf"][0]["key"] == {"model": 1}
    with pytest.raises(InvalidInput, match="mad_unique_key nobody: a row of model dummy has no such column"):
        upload(server, mongo.of_files([path]), unique_key=["nobody"])


def test_inserting_only(server: Mongo, tmp_path: Any) -> None:
    url = history(tmp_path, success(1))
    assert upload(server, mongo.of_history(url), upsert=False) == mongo.Answer(1, 1, 0)
    history(tmp_path, success(2))
    assert upload(server, mongo.of_history(url), upsert=False) == mongo.Answer(2, 1, 0)


def test_without_an_index(server: Mongo, tmp_path: Any) -> None:
    upload(server, mongo.of_history(history(tmp_path, success(1))), make_index=False)
    assert "createIndexes" not in server.commands


def test_a_login(tmp_path: Any) -> None:
    url = history(tmp_path, success(1))
    with Mongo("uploader", "s3cret-word") as running:
        assert upload(running, mongo.of_history(url)).inserted == 1
        wrong = mongo.server({**running.environment(), "MONGO_PASSWORD": "not-this-word"})
        with pytest.raises(mongo.MongoProblem, match="check MONGO_USER, MONGO_PASSWORD and MONGO_AUTH_SOURCE") as caught:
            mongo.upload(wrong, WHAT, mongo.of_history(url))
        assert "not-this-word" not in caught.value.message


def test_servers_that_say_no(tmp_path: Any) -> None:
    url = history(tmp_path, success(1))
    with Mongo(read_only=True) as running, pytest.raises(mongo.MongoProblem, match="needs readWrite"):
        upload(running, mongo.of_history(url))
    with Mongo() as running:
        environ = {**running.environment(), "MONGO_TIMEOUT_MS": "300"}
    with pytest.raises(mongo.MongoProblem, match="no answer within 300 ms; check MONGO_HOST and MONGO_PORT"):
        mongo.upload(mongo.server(environ), WHAT, mongo.of_history(url))


def test_madengine_s_environment() -> None:
    assert mongo.server({}) == mongo.Server("localhost", 27017, "", "", "admin", 5000)
    with pytest.raises(InvalidInput, match="MONGO_PORT"):
        mongo.server({"MONGO_PORT": "x"})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("performance", "2.50", 2.5), ("performance", "14-18|32", "14-18|32"), ("performance", "nan", None), ("n_gpus", "2.0", 2),
        ("git_commit", "12345678", "12345678"), ("own_column", "7", 7), ("configs", '{"a.b": NaN, "$c": [1e400]}', {"a_b": None, "_c": [None]}),
        ("configs", "{broken", "{broken"), ("tags", "", ""),
    ],
)  # fmt: skip
def test_values(name: str, text: str, value: Any) -> None:
    key = {**dict.fromkeys(mongo.UNIQUE, 1), "value": None}
    assert mongo.document({name: text, "model": "m"}, key)[name] == value


def test_names_that_mongodb_could_not_ask_for() -> None:
    found = mongo.document({"a.b": "x", "$set": "y"}, {**dict.fromkeys(mongo.UNIQUE, 1), "value": None})
    assert (found["a_b"], found["_set"]) == ("x", "y")
