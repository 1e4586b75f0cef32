# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading both sides, grouping, directions, references, the table, and relative_change in perf.csv."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput, MadError
from ansible_collections.mad.engine.plugins.module_utils.results import record as records
from ansible_collections.mad.engine.plugins.module_utils.results import rows
from ansible_collections.mad.engine.plugins.plugin_utils import perf_files, store
from ansible_collections.mad.engine.plugins.plugin_utils.history import imports
from ansible_collections.mad.engine.plugins.plugin_utils.history.place import database_url
from ansible_collections.mad.engine.plugins.plugin_utils.judge import asked, libraries, sequential, sources
from ansible_collections.mad.engine.tests.support.records import (
    FACTS,
    crash,
    make_campaign,
    make_metric,
    make_outcome,
    make_parsed,
    make_run,
)

HEAD = "model,performance,metric,machine_name,n_gpus,gpu_architecture,status\n"


def table(path: Path, models: dict[str, tuple[float, str]], runs: int = 6, noise: float = 0.01, machine: str = "n1") -> str:
    """A perf.csv as madengine writes it."""
    random = np.random.default_rng(len(path.name) + runs)
    lines = [
        "%s,%r,%s,%s,8,gfx942,SUCCESS\n" % (model, value * (1 + noise * random.standard_normal()), metric, machine)
        for model, (value, metric) in models.items()
        for dummy in range(runs)
    ]
    path.write_text(HEAD + "".join(lines))
    return str(path)


def compare(baseline: Any, candidate: Any, **more: Any) -> asked.Answer:
    return asked.compare({"baseline": baseline, "candidate": candidate, **more}, write=True)


def verdicts(answer: asked.Answer) -> dict[str, str]:
    return {entry["model"]: entry["verdict"] for entry in answer.entries}


def campaign(
    results: Path, name: str, values: dict[str, list[float]], unit: str = "samples_per_second", hosts: int = 1, **card: Any
) -> Any:
    """A campaign with these numbers of each model; its runs go round the hosts."""
    runs, found = [], []
    for model, numbers in values.items():
        for place, value in enumerate(numbers):
            run = make_run(
                len(runs) + 1, model=model, repeat=place // hosts + 1, place={"host": "n%d" % (place % hosts)}, card={"name": model, **card}
            )
            runs.append(dict(run, campaign=name))
            metric = make_metric(value=value, text=repr(value), unit=unit, name=unit)
            found.append(records.make_record(runs[-1], make_outcome(), make_parsed(metrics=[metric]), FACTS))
    made = make_campaign(results, runs, name)
    for record in found:
        made.save_result(record)
    store.store(made, store.Options(hosts={}))
    return made


STEADY = [100.0, 101.0, 99.0, 100.5, 99.5, 100.2]


# -- verdicts --------------------------------------------------------------------------------------------------------------------


def test_what_changed_and_what_did_not(tmp_path: Path) -> None:
    old = {"fast": (100.0, "tokens_per_second"), "slow": (100.0, "tokens_per_second"), "lag": (5.0, "seconds"), "still": (7.0, "img/s")}
    new = {"fast": (120.0, "tokens_per_second"), "slow": (90.0, "tokens_per_second"), "lag": (4.0, "seconds"), "still": (7.0, "img/s")}
    answer = compare(table(tmp_path / "old.csv", old, noise=0.004), table(tmp_path / "newer.csv", new, noise=0.004))
    assert verdicts(answer) == {"slow": "regressed", "fast": "improved", "lag": "improved", "still": "same"}
    slow = answer.entries[0]
    assert slow["low"] < slow["effect"] < slow["high"] < 0.95 and abs(slow["effect"] - 0.9) < 0.02
    assert answer.counts == {"improved": 2, "regressed": 1, "same": 1, "inconclusive": 0}
    assert answer.lines[-1] == "4 comparisons: 1 regressed, 2 improved, 1 same"
    assert max(len(line) for line in answer.lines if str(tmp_path) not in line) <= 80  # a word that is too long stays whole


def test_a_direction_that_nobody_declares_is_not_guessed(tmp_path: Path) -> None:
    old, new = (table(tmp_path / name, {"odd": (value, "zorks")}) for name, value in (("old.csv", 7.0), ("newer.csv", 9.0)))
    answer = compare(old, new)
    assert verdicts(answer) == {"odd": "inconclusive"}
    assert "nobody says whether higher or lower is better" in answer.entries[0]["reason"]
    assert answer.entries[0]["low"] > 1.1
    assert verdicts(compare(old, new, better={"zorks": "lower"})) == {"odd": "regressed"}
    with pytest.raises(InvalidInput, match="mad_better.zorks"):
        compare(old, new, better={"zorks": "bigger"})


def test_one_run_a_side_is_inconclusive_and_says_what_is_needed(tmp_path: Path) -> None:
    old, new = (table(tmp_path / name, {"m": (value, "img/s")}, runs=1) for name, value in (("old.csv", 7.0), ("newer.csv", 3.0)))
    (entry,) = compare(old, new).entries
    assert (entry["verdict"], entry["low"], entry["repeats_needed"]) == ("inconclusive", None, 4)
    assert "1 and 1" in entry["reason"] and "at least 4 runs" in entry["reason"]


def test_noise_asks_for_more_repeats(tmp_path: Path) -> None:
    old, new = (table(tmp_path / name, {"m": (value, "img/s")}, noise=0.05) for name, value in (("old.csv", 7.0), ("newer.csv", 6.8)))
    (entry,) = compare(old, new).entries
    assert entry["verdict"] == "inconclusive"
    assert 6 < entry["repeats_needed"] <= 100
    assert "would probably be decided with mad_repeats=%d" % entry["repeats_needed"] in "\n".join(compare(old, new).lines)


def test_only_what_is_comparable_is_compared(tmp_path: Path) -> None:
    """Other arguments, another metric, other hardware: each stands alone and says so."""
    (tmp_path / "a.csv").write_text(HEAD + "m,5,img/s,n1,8,gfx942,SUCCESS\n" * 4)
    (tmp_path / "b.csv").write_text(HEAD + "m,5,img/s,n1,8,gfx90a,SUCCESS\n" * 4 + "m,5,img/s,n1,4,gfx942,SUCCESS\n" * 4)
    answer = compare(str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), fail_on="missing")
    assert sorted((entry["hardware"], entry["missing"]) for entry in answer.entries) == [
        ("4x gfx942", "baseline"), ("8x gfx90a", "baseline"), ("8x gfx942", "candidate"),
    ]  # fmt: skip
    assert answer.message == "mad_fail_on=missing: 1 of 3 comparisons: m"


def test_a_number_of_gpus_is_one_however_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEAD + "m,5,img/s,n1,%s,gfx942,SUCCESS\n" % "8.0")
    (tmp_path / "b.csv").write_text(HEAD + "m,5,img/s,n1,%s,gfx942,SUCCESS\n" % "8")
    (entry,) = compare(str(tmp_path / "a.csv"), str(tmp_path / "b.csv")).entries
    assert (entry["hardware"], entry["n_gpus"], entry["missing"]) == ("8x gfx942", "8", "")


def test_failed_runs_are_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEAD + "m,5,img/s,n1,8,gfx942,SUCCESS\n" * 4)
    (tmp_path / "b.csv").write_text(HEAD + "m,5,img/s,n1,8,gfx942,FAILURE\n" * 4)
    (entry,) = compare(str(tmp_path / "a.csv"), str(tmp_path / "b.csv")).entries
    assert (entry["verdict"], entry["missing"], entry["candidate"]["failed"]) == ("inconclusive", "candidate", 4)


def test_no_ratio_of_numbers_below_zero(tmp_path: Path) -> None:
    old, new = (table(tmp_path / name, {"m": (value, "loss")}) for name, value in (("old.csv", -7.0), ("newer.csv", 6.8)))
    assert compare(old, new).entries[0]["reason"] == "a ratio needs numbers above 0"


def test_looks_of_a_sequential_comparison(tmp_path: Path) -> None:
    old = table(tmp_path / "old.csv", {"m": (7.0, "img/s")}, runs=12)
    for runs, decided, needed in ((3, "inconclusive", 4), (4, "regressed", 0), (5, "regressed", 0)):
        (entry,) = compare(old, table(tmp_path / "newer.csv", {"m": (5.0, "img/s")}, runs=runs), repeats_max=12).entries
        assert (entry["verdict"], entry["repeats_needed"]) == (decided, needed), runs
    (entry,) = compare(old, table(tmp_path / "newer.csv", {"m": (6.9, "img/s")}, runs=5, noise=0.05), repeats_max=12).entries
    assert (entry["verdict"], entry["repeats_needed"]) == ("inconclusive", 6)


# -- inputs ------------------------------------------------------------------------------------------------------------------------


def test_an_awkward_perf_csv(tmp_path: Path) -> None:
    text = "\ufeffMetric, MODEL ,Performance,extra,status,machine name\n"
    text += "s,m,2,x,SUCCESS,n1\ns,m,2.0,x,success,n1\ns,m,3.5s,x,SUCCESS,n1\nimg/s,m,12ms,x,SUCCESS,n1\n"
    text += "s,m,nan,x,SUCCESS,n1\ns,m,=1+1,x,SUCCESS,n1\ns,m,1,2,3,4,5,6,7\n\ns,m,'-3,x,SUCCESS,n1\ns\ns,m,1\ns,m,19,x,SUC"
    (tmp_path / "awkward.csv").write_text(text)
    answer = compare(str(tmp_path / "awkward.csv"), str(tmp_path / "awkward.csv"))
    groups = {entry["metric"]: entry["baseline"] for entry in answer.entries}
    assert groups["s"]["runs"] == 4 and groups["s"]["failed"] == 1
    assert groups["img/s [ms]"]["runs"] == 1
    (first, _second, *dummy) = answer.warnings
    assert "5 rows left out" in first
    for told in ("'=1+1'", "9 cells for 6 columns", "1 cells for 6 columns", "half a last line (5 of 6 cells)"):
        assert told in first


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\0\1\2", '"' + "x" * 2_000_000])
def test_what_is_no_perf_csv(tmp_path: Path, text: str) -> None:
    (tmp_path / "no.csv").write_text(text)
    with pytest.raises(InvalidInput, match=r"no\.csv"):
        compare(str(tmp_path / "no.csv"), str(tmp_path / "no.csv"))


def test_a_name_that_is_nothing(tmp_path: Path) -> None:
    campaign(tmp_path, "c1", {"m": STEADY})
    with pytest.raises(InvalidInput, match="no such campaign, folder or perf.csv; the newest campaigns in .* are c1"):
        compare("c7", "c1", results=str(tmp_path))
    with pytest.raises(InvalidInput, match="mad_baseline is not set"):
        compare(None, "c1", results=str(tmp_path))
    with pytest.raises(InvalidInput, match="no other campaign with results"):
        compare("last", "c1", results=str(tmp_path))


@pytest.mark.parametrize("given", [{"same_within": "2"}, {"same_within": "-1%"}, {"fail_on": "worse"}, {"repeats_max": 3}])
def test_words_that_mean_nothing(tmp_path: Path, given: dict[str, Any]) -> None:
    campaign(tmp_path, "c1", {"m": STEADY})
    with pytest.raises(InvalidInput, match="mad_" + next(iter(given))):
        compare("c1", "c1", results=str(tmp_path), **given)


def test_without_numpy_and_scipy_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "MISSING", "No module named 'scipy'")
    with pytest.raises(MadError, match="pip install numpy scipy"):
        compare("a", "b")


# -- campaigns ---------------------------------------------------------------------------------------------------------------------


def test_two_campaigns_and_relative_change(tmp_path: Path) -> None:
    campaign(tmp_path, "before", {"m": STEADY, "n": STEADY})
    after = campaign(tmp_path, "after", {"m": [value * 0.8 for value in STEADY], "n": STEADY})
    answer = compare("before", "after", results=str(tmp_path), fail_on=["regressed"])
    assert verdicts(answer) == {"m": "regressed", "n": "same"}
    assert (answer.changed, answer.message) == (True, "mad_fail_on=regressed: 1 of 2 comparisons: m 1 -20.0%".replace("m 1", "m --a 1"))
    changes = [(row["model"], row["relative_change"]) for row in rows.from_csv(Path(after.perf_path).read_text())]
    assert ("m", "-0.2008") in changes and all(text for dummy, text in changes)
    assert compare("before", "after", results=str(tmp_path)).changed is False
    again = store.store(after, store.Options(hosts={}))
    assert again.changed is False, "perf_store writes the column too"


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    campaign(tmp_path, "before", {"m": STEADY})
    after = campaign(tmp_path, "after", {"m": STEADY})
    text = Path(after.perf_path).read_text()
    answer = asked.compare({"baseline": "before", "candidate": "after", "results": str(tmp_path)}, write=False)
    assert answer.changed is True
    assert Path(after.perf_path).read_text() == text and not Path(after.comparison_path).exists()


def test_a_folder_that_cannot_be_written_costs_the_column_only(tmp_path: Path) -> None:
    campaign(tmp_path, "before", {"m": STEADY})
    after = campaign(tmp_path, "after", {"m": STEADY})
    Path(after.comparison_path).mkdir()
    answer = compare("before", "after", results=str(tmp_path))
    assert verdicts(answer) == {"m": "same"}
    assert answer.warnings[-1].startswith("relative_change is not filled: %s cannot be written" % after.comparison_path)


def test_the_last_campaigns_are_the_baseline(tmp_path: Path) -> None:
    for number, speed in enumerate((1.0, 1.03, 0.97, 1.02)):
        made = campaign(tmp_path, "night-%d" % number, {"m": [speed * value for value in STEADY]})
        stamp = 1_000_000_000 + number
        os.utime(made.plan_path, (stamp, stamp))
    answer = compare("last:3", None, results=str(tmp_path))
    (entry,) = answer.entries
    assert (answer.candidate, entry["baseline"]["campaigns"]) == ("night-3", ["night-0", "night-1", "night-2"])
    assert (entry["method"], entry["verdict"]) == ("campaigns", "inconclusive")


def test_what_is_not_decided_is_asked_for_again(tmp_path: Path) -> None:
    noisy = [100.0, 104.0, 97.0, 102.0, 95.0, 103.0]
    campaign(tmp_path, "before", {"fell": STEADY, "noisy": noisy, "odd": STEADY})
    campaign(tmp_path, "after", {"fell": [0.8 * value for value in STEADY[:4]], "noisy": noisy[::-1][:4], "odd": [-1.0] * 4})
    words = {"results": str(tmp_path), "repeats_max": 9}
    answer = compare("before", "after", **words)
    assert verdicts(answer) == {"fell": "regressed", "noisy": "inconclusive", "odd": "inconclusive"}
    assert list(answer.further) == [{"model": "noisy", "args": "--a 1", "host": "n0", "repeats": 6}], "no run makes a ratio of -1"
    assert not compare("before", "after", results=str(tmp_path)).further
    few = campaign(tmp_path, "few", {"fell": STEADY[:2]})
    assert [more["repeats"] for more in compare("before", "few", **words).further] == [4], "the first look"
    few.save_result(crash(2, model="fell", campaign="few", repeat=2, place={"host": "n0"}))
    entry = {"repeats_needed": 4, "card": "fell", "args": "", "candidate": {"hosts": ["n0"]}}
    plan = {"runs": [{"model": "fell", "place": {"host": "n0"}, "repeat": number} for number in range(1, 5)]}
    assert [more["repeats"] for more in sequential.further(plan, [entry], 9)] == [5], "one in the place of what failed"
    assert sequential.further(plan, [entry], 4) == [], "and no more than the most"


def test_every_look_is_at_the_same_baseline(tmp_path: Path) -> None:
    for number in range(3):
        made = campaign(tmp_path, "night-%d" % number, {"m": STEADY})
        os.utime(made.plan_path, (1_000_000_000 + number,) * 2)
    place = sources.Place(str(tmp_path))
    assert sources.pinned(place, ["last"], "night-2") == ["night-1"]
    assert sources.pinned(place, ["last:2", "night-0"], "tonight") == ["night-1", "night-2", "night-0"]
    with pytest.raises(InvalidInput, match="mad_baseline nowhere: no such campaign"):
        sources.pinned(place, ["nowhere"], "tonight")


def test_hosts_are_compared_with_themselves(tmp_path: Path) -> None:
    speeds = [1.0, 1.5, 0.7]
    old = [STEADY[place % 6] * speeds[place % 3] for place in range(18)]
    campaign(tmp_path, "before", {"m": old}, hosts=3)
    campaign(tmp_path, "after", {"m": [0.9 * value for value in old]}, hosts=3)
    (entry,) = compare("before", "after", results=str(tmp_path)).entries
    assert (entry["verdict"], entry["hosts"]) == ("regressed", 3)
    assert entry["high"] < 0.95


def test_zero_rows_and_all_failed(tmp_path: Path) -> None:
    campaign(tmp_path, "before", {"m": STEADY})
    failed = make_campaign(tmp_path, [make_run(1, model="m")], "failed")
    failed.save_result(crash(1, model="m", campaign="failed"))
    (entry,) = compare("before", "failed", results=str(tmp_path)).entries
    assert entry["reason"] == "no run of the candidate has a number (1: crash)"
    empty = make_campaign(tmp_path, [make_run(1)], "empty")
    with pytest.raises(
        InvalidInput, match=r"mad_candidate empty: there are no rows of results \(campaign empty: 1 planned run has no row yet"
    ):
        compare("before", empty.name, results=str(tmp_path))


def test_a_foreign_perf_csv_is_never_written(tmp_path: Path) -> None:
    old = table(tmp_path / "old.csv", {"m": (7.0, "img/s")})
    text = Path(old).read_text()
    compare(old, old)
    assert Path(old).read_text() == text


# -- declared values -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ([100, -0.05, None], "same"),
        ([120, -0.05, None], "regressed"),
        ([80, -0.05, 0.05], "improved"),
        ([104.5, -0.05, None, "img/s"], "inconclusive"),
    ],
)
def test_declared_values(tmp_path: Path, declared: list[Any], expected: str) -> None:
    random = np.random.default_rng(1)
    campaign(
        tmp_path,
        "c1",
        {"m": [100.0 * (1 + 0.02 * random.standard_normal()) for dummy in range(6)]},
        reference={"*": {"samples_per_second": declared}},
    )
    (entry,) = compare(None, "c1", results=str(tmp_path)).entries
    assert entry["verdict"] == expected
    assert entry["baseline"]["reference"] == declared[0]


def test_a_file_of_declared_values(tmp_path: Path) -> None:
    campaign(tmp_path, "c1", {"m": STEADY, "n": STEADY})
    (tmp_path / "limits.yml").write_text("m:\n  '*MI300X*':\n    samples_per_second: [200, -0.1, 0.1]\n")
    answer = compare(None, "c1", results=str(tmp_path), references=str(tmp_path / "limits.yml"), fail_on="regressed")
    assert verdicts(answer) == {"m": "regressed"} and answer.message
    (tmp_path / "limits.yml").write_text("m:\n  '*':\n    samples_per_second: [200, 5, 0.1]\n")
    with pytest.raises(InvalidInput, match="limits.yml: m.*samples_per_second: expected a value above 0, low from -1"):
        compare(None, "c1", results=str(tmp_path), references=str(tmp_path / "limits.yml"))


def test_declared_values_that_concern_nothing_are_said(tmp_path: Path) -> None:
    """A slip in a name would otherwise look like a pass."""
    path = table(tmp_path / "perf.csv", {"m": (100.0, "s/s")})
    answer = compare(None, path, references={"n": {"*": {"s/s": [100, -0.1, None]}}, "k*": {"*": {"s/s": [1, -0.1, None]}}})
    assert answer.warnings == ["none of the declared values is about a result of %s; they are about n s/s, k* s/s" % path]
    assert answer.entries == [] and answer.lines[-1] == "0 comparisons: nothing to compare"


def test_the_first_declared_value_that_applies_counts(tmp_path: Path) -> None:
    path = table(tmp_path / "perf.csv", {"m": (100.0, "s/s"), "mm": (100.0, "s/s")})
    limits = {"m?": {"*": {"s/s": [1, None, 0.1]}}, "m": {"other": {"s/s": [1, None, 0.1]}}, "*": {"n1": {"s/s": [100, -0.1, None]}}}
    found = {entry["model"]: entry["baseline"]["reference"] for entry in compare(None, path, references=limits).entries}
    assert found == {"m": 100, "mm": 1}


def test_perf_csv_with_relative_change_stays_a_perf_csv(tmp_path: Path) -> None:
    campaign(tmp_path, "before", {"m": STEADY})
    after = campaign(tmp_path, "after", {"m": [value * 0.8 for value in STEADY]})
    compare("before", "after", results=str(tmp_path))
    with open(after.perf_path, newline="", encoding="utf-8") as stream:
        first = next(csv.DictReader(stream))
    assert float(first["relative_change"]) < -0.19
    assert perf_files.append(str(tmp_path / "all.csv"), rows.from_csv(Path(after.perf_path).read_text()))


# -- the history -------------------------------------------------------------------------------------------------------------------------


def test_campaigns_whose_folder_is_gone_come_out_of_the_history(tmp_path: Path) -> None:
    for number, part in enumerate((1.0, 1.0, 0.8)):
        made = campaign(tmp_path, "night-%d" % number, {"m": [part * value for value in STEADY]})
        os.utime(made.plan_path, (2_000_000_000 + number,) * 2)
    folders = compare("night-0", "night-2", results=str(tmp_path)).entries
    shutil.rmtree(tmp_path / "night-0")
    assert compare("night-0", "night-2", results=str(tmp_path)).entries == folders
    assert compare("last:5", "night-2", results=str(tmp_path)).entries[0]["baseline"]["campaigns"] == ["night-0", "night-1"]
    shutil.rmtree(tmp_path / "night-2")
    gone = compare("night-0", "night-2", results=str(tmp_path), fail_on="regressed")
    assert (gone.entries, gone.changed) == (folders, False)
    (tmp_path / "history.db").write_bytes(b"damaged" * 999)
    campaign(tmp_path, "night-3", {"m": STEADY})
    assert "cannot be read" in " ".join(compare("last", "night-3", results=str(tmp_path)).warnings)


def test_an_imported_file_compares_as_the_file_does(tmp_path: Path) -> None:
    old, new = (table(tmp_path / name, {"m": (value, "s")}, noise=0.01) for name, value in (("old.csv", 7.0), ("newer.csv", 9.0)))
    Path(old).write_text(Path(old).read_text().replace("m,", "m,7.1s,s,n1,8,gfx942,SUCCESS\nm,", 1))
    imports.import_files(database_url(str(tmp_path)), [old, new])
    (direct,), (asked_for,) = compare(old, new).entries, compare("old", "newer", results=str(tmp_path)).entries
    assert direct["baseline"]["runs"] == 7
    for entry in (direct, asked_for):
        del entry["baseline"]["campaigns"], entry["candidate"]["campaigns"], entry["p"], entry["p_adjusted"]  # sums in another order
    assert asked_for == direct
    with pytest.raises(InvalidInput, match="no other campaign with results"):
        compare("last", "newer", results=str(tmp_path))
