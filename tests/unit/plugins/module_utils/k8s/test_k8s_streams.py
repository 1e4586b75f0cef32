# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams of the API that break: logs that come home whole, watches that go on. The API's edge is played by a class of this file."""

from __future__ import annotations

import calendar
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_client, k8s_feed, k8s_logs
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_client import ApiError
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_feed import Feed, News
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_logs import LogReader, Tee

_NOON = calendar.timegm((2026, 6, 1, 12, 0, 0))


class Response:
    """Chunks of a body, and perhaps an error in the end."""

    def __init__(self, chunks: list[bytes], error: Exception | None = None) -> None:
        self.chunks, self.error = chunks, error

    def stream(self, *dummy: Any, **dummies: Any) -> Iterator[bytes]:
        yield from self.chunks
        if self.error:
            raise self.error

    def close(self) -> None:
        pass


class Edge:
    """Gives the prepared answers, one for each request; what was asked stands in `asked`."""

    def __init__(self, *answers: Any, listed: list[Any] | None = None) -> None:
        self.answers, self.listed = list(answers), listed or []
        self.asked: list[dict[str, Any]] = []

    def path(self, *words: str) -> str:
        return "/".join(words)

    def open(self, method: str, path: str, query: dict[str, Any], **dummy: Any) -> Response:
        self.asked.append(dict(query))
        if not self.answers and "follow" in query:
            return Response([])  # a log that has ended
        answer = self.answers.pop(0)
        if callable(answer):
            answer = answer(query)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def list(self, *dummy: Any) -> tuple[list[Any], str]:
        self.asked.append({"list": True})
        return self.listed, "100"


# -- lines and logs ----------------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_lines_are_whole_however_the_chunks_fall(body: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(body)]
    chunks = [body[first:last] for first, last in zip(edges, edges[1:])] + [body[edges[-2] :] if cuts and edges[-2] > len(body) else b""]
    whole = b"".join(chunks)
    found = list(itertools.chain.from_iterable(k8s_client.lines(Response(chunks))))
    assert b"".join(found) == whole and all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in found[:-1])


def log_of(seconds: list[int]) -> bytes:
    """Lines with the kubelet's times; several may have the same one."""
    return b"".join(b"2026-01-01T00:00:%02d.%09dZ line %d\n" % (second // 4, second % 4, number) for number, second in enumerate(sorted(seconds)))


@given(st.lists(st.integers(0, 39), min_size=1, max_size=30), st.lists(st.integers(0, 1200), max_size=5))
def test_a_log_whose_stream_breaks_anywhere_has_each_line_once(tmp_path_factory: pytest.TempPathFactory, seconds: list[int], cuts: list[int]) -> None:
    whole = log_of(seconds)
    path = tmp_path_factory.mktemp("log") / "pod.log"

    def served(query: dict[str, Any]) -> bytes:
        since = query.get("sinceTime", "").rstrip("Z").encode()
        return b"".join(line for line in whole.splitlines(keepends=True) if line[:19] >= since)

    def broken(cut: int) -> Any:
        return lambda query: Response([served(query)[:cut]], OSError("reset"))

    edge = Edge(*(broken(cut) for cut in cuts), lambda query: Response([served(query)]))
    reader = LogReader(edge, "pod", "model", str(path), lambda: 60.0, Tee(str(path) + ".model"))  # type: ignore[arg-type]
    reader.stopped.wait = lambda seconds=None: False  # type: ignore[method-assign, assignment]
    reader.run()
    assert path.read_bytes() == whole and reader.problem == "" and reader.done.is_set()
    assert [k8s_logs.text(line) for line in path.read_bytes().splitlines(keepends=True)] == [b"line %d\n" % n for n in range(len(seconds))]


@pytest.mark.parametrize(("status", "ended", "asked"), [(403, None, 1), (401, None, 1), (404, 5.0, 1)])
def test_a_log_that_nobody_will_get_is_not_asked_for_again(tmp_path: Path, status: int, ended: float | None, asked: int) -> None:
    edge = Edge(ApiError("no", status))
    reader = LogReader(edge, "pod", "model", str(tmp_path / "log"), lambda: ended, Tee(str(tmp_path / "model")))  # type: ignore[arg-type]
    reader.run()
    assert len(edge.asked) == asked and reader.problem == "no" and reader.done.is_set()


def test_a_log_of_which_nothing_comes_any_more_is_given_up(tmp_path: Path) -> None:
    """Streams that break at once bring nothing new: the container has ended, and what its node still has of the log is worth no more patience."""
    line = b"2026-01-01T00:00:01.5Z one\n"
    edge = Edge(Response([line], OSError("reset")), *[Response([line], OSError("reset")) for dummy in range(50)])
    reader = LogReader(edge, "pod", "model", str(tmp_path / "log"), lambda: 0.0, Tee(str(tmp_path / "model")))  # type: ignore[arg-type]
    reader.stopped.wait = lambda seconds=None: False  # type: ignore[method-assign, assignment]
    reader.run()
    assert len(edge.asked) == 2 and "reset" in reader.problem and (tmp_path / "log").read_bytes() == line


@pytest.mark.parametrize("zone", ["Z", "+02:00", "-09:30"])
def test_a_log_goes_on_whatever_time_zone_its_node_is_in(tmp_path: Path, zone: str) -> None:
    """The kubelet compares moments: a `sinceTime` that is hours away would bring nothing, or everything."""
    whole = [(60 * minute, b"line %d\n" % minute) for minute in range(4)]
    shift = {"Z": 0, "+02:00": 7200, "-09:30": -34200}[zone]

    def served(query: dict[str, Any]) -> list[bytes]:
        since = calendar.timegm(time.strptime(query["sinceTime"], "%Y-%m-%dT%H:%M:%SZ")) if "sinceTime" in query else 0
        found = [(_NOON + after, line) for after, line in whole if _NOON + after >= since]
        return [time.strftime("%Y-%m-%dT%H:%M:%S.5", time.gmtime(when + shift)).encode() + zone.encode() + b" " + line for when, line in found]

    edge = Edge(lambda query: Response(served(query)[:2], OSError("reset")), lambda query: Response(served(query)))
    reader = LogReader(edge, "pod", "model", str(tmp_path / "log"), lambda: 60.0, Tee(str(tmp_path / "model")))  # type: ignore[arg-type]
    reader.stopped.wait = lambda seconds=None: False  # type: ignore[method-assign, assignment]
    reader.run()
    assert [k8s_logs.text(line) for line in (tmp_path / "log").read_bytes().splitlines(keepends=True)] == [line for dummy, line in whole]
    assert edge.asked[1]["sinceTime"] == "2026-06-01T12:01:00Z"


def test_the_end_of_a_log_that_an_answer_leaves_out_is_asked_for(tmp_path: Path) -> None:
    """The API server ends its answer as if all were well when its connection to the node breaks, also when the container has ended."""
    said = [b"mad.engine/1 x hello ", b"mad.engine/1 x begin model", b"one", b"two", b"mad.engine/1 x end model", b"mad.engine/1 x bye exit=0"]
    whole = [b"2026-01-01T00:00:%02d.5Z %s\n" % (number, line) for number, line in enumerate(said)]
    edge = Edge(Response(whole[:3]), lambda query: Response([line for line in whole if line[:19] >= query["sinceTime"][:19].encode()]))
    reader = LogReader(edge, "pod", "model", str(tmp_path / "log"), lambda: 60.0, Tee(str(tmp_path / "model")))  # type: ignore[arg-type]
    reader.stopped.wait = lambda seconds=None: False  # type: ignore[method-assign, assignment]
    reader.run()
    assert (tmp_path / "log").read_bytes() == b"".join(whole) and reader.problem == "" and len(edge.asked) == 2
    assert (tmp_path / "model").read_bytes() == b"one\ntwo\n"


def test_the_rest_of_a_long_line_does_not_come_twice(tmp_path: Path) -> None:
    """The runtime cuts a long line; of one that began before `sinceTime` the kubelet sends the later pieces, which have no time in front."""
    first, second = b"2026-01-01T00:00:01.9Z " + b"x" * 20000 + b"\n", b"2026-01-01T00:00:02.5Z next\n"
    last = b"2026-01-01T00:00:02.6Z last\n"
    again = Response([b"x" * 3616 + b"\n" + second + last])
    edge = Edge(lambda query: Response([first + second], OSError("reset")), lambda query: again)
    reader = LogReader(edge, "pod", "model", str(tmp_path / "log"), lambda: 60.0, Tee(str(tmp_path / "model")))  # type: ignore[arg-type]
    reader.stopped.wait = lambda seconds=None: False  # type: ignore[method-assign, assignment]
    reader.run()
    assert (tmp_path / "log").read_bytes() == first + second + last


def test_what_another_process_brought_is_not_brought_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(log_of([1, 2, 2]) + b"2026-01-01T00:00:00.0000000")  # it died in the middle of a line
    edge = Edge(lambda query: Response([log_of([1, 2, 2, 2, 9])]))
    reader = LogReader(edge, "pod", "model", str(path), lambda: 1.0, Tee(str(tmp_path / "model")))  # type: ignore[arg-type]
    reader.stopped.wait = lambda seconds=None: False  # type: ignore[method-assign, assignment]
    reader.run()
    assert path.read_bytes() == log_of([1, 2, 2, 2, 9])


@pytest.mark.parametrize(
    ("line", "when", "said"),
    [
        (b"2026-01-01T00:00:00.5Z a\n", b"2026-01-01T00:00:00.500000000", b"a\n"),
        (b"2026-01-01T00:00:00+02:00 a b\n", b"2025-12-31T22:00:00.000000000", b"a b\n"),
        (b"2026-02-28T20:30:00.000000001-03:30 a\n", b"2026-03-01T00:00:00.000000001", b"a\n"),
        (b"no time\n", b"", b"no time\n"),
    ],
)
def test_times_in_front_of_lines(line: bytes, when: bytes, said: bytes) -> None:
    assert (k8s_logs.stamp(line), k8s_logs.text(line)) == (when, said)


# -- watches -----------------------------------------------------------------------------------------------------------------------


def event(kind: str, version: int, **more: Any) -> bytes:
    return json.dumps({"type": kind, "object": {"metadata": {"name": "a", "resourceVersion": str(version)}, **more}}).encode() + b"\n"


def followed(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> tuple[list[News], Feed]:
    """Run a feed until the prepared answers are used up."""
    news: list[News] = []
    feed = Feed(edge, "jobs", "a=b", news.append)  # type: ignore[arg-type]
    monkeypatch.setattr(k8s_feed, "_PAUSES", (0.0,))
    edge.answers.append(ApiError("that is all", 403))
    feed.run()
    assert news.pop().error and not edge.answers
    return news, feed


def test_a_watch_goes_on_where_it_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Response([event("ADDED", 101), event("BOOKMARK", 150), event("MODIFIED", 151)[:20]])
    edge = Edge(broken, ApiError("away", 0), ApiError("busy", 500), Response([event("DELETED", 160)], OSError("reset")), listed=[{"metadata": {}}])
    news, dummy = followed(edge, monkeypatch)
    assert [one.get("resourceVersion") for one in edge.asked[1:]] == ["100", "150", "150", "150", "160"]
    assert news[0].listed == [{"metadata": {}}] and [one.gone for one in news[1:]] == [False, True]


@pytest.mark.parametrize("expired", [ApiError("too old", 410), Response([event("ERROR", 0, code=410, reason="Expired", message="too old")])])
def test_a_watch_that_is_too_old_begins_with_a_list(expired: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    edge = Edge(expired, listed=[])
    news, dummy = followed(edge, monkeypatch)
    assert [bool(one.get("list")) for one in edge.asked] == [True, False, True, False] and [one.listed for one in news] == [[], []]


def test_a_version_that_no_server_knows_any_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    edge = Edge(*[ApiError("too large resource version", 504)] * 11)
    followed(edge, monkeypatch)
    assert [bool(one.get("list")) for one in edge.asked] == [True, *[False] * 11, True, False]


# -- errors in words ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason", "message", "failure", "words"),
    [
        (403, "Forbidden", 'jobs.batch is forbidden: User "u" cannot create resource "jobs"', "infra", "give the service account this right"),
        (403, "Forbidden", "exceeded quota: x", "placement", "exceeded quota: x"),
        (403, "Forbidden", 'admission webhook "policy" denied the request: images cannot be latest', "invalid", "denied the request"),
        (401, "Unauthorized", "Unauthorized", "infra", "does not accept the credentials"),
        (422, "Invalid", "spec.x: bad", "invalid", "POST /jobs: spec.x: bad"),
        (500, "", "", "infra", "HTTP status 500"),
    ],
)
def test_a_refusal_says_what_to_do(code: int, reason: str, message: str, failure: str, words: str) -> None:
    class Refusal:
        status, headers = code, {"Retry-After": "7"}
        data = json.dumps({"reason": reason, "message": message}).encode() if message else b"<html>proxy</html>"

        def release_conn(self) -> None:
            pass

    problem = k8s_client._problem(Refusal(), "POST", "/jobs", "bench")
    assert (problem.status, problem.failure_class) == (code, failure) and words in problem.message
    assert ("right" in problem.message) == ("cannot create resource" in message)
    assert problem.retry_after == 7.0  # type: ignore[attr-defined]


def test_which_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", "%s:%s" % (tmp_path / "absent", tmp_path / "there"))
    assert k8s_client.kubeconfigs("") == [str(tmp_path / ".kube" / "config")]
    (tmp_path / "there").touch()
    assert k8s_client.kubeconfigs("") == [str(tmp_path / "absent"), str(tmp_path / "there")]
    assert k8s_client.kubeconfigs("~/mine") == [str(tmp_path / "mine")]
    monkeypatch.delenv("KUBECONFIG")
    assert k8s_client.kubeconfigs("") == [str(tmp_path / ".kube" / "config")]
