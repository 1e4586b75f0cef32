# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A person in front of a cluster, with a repository of models and a results folder: plays of the collection, and the rows that come of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .campaigns import Playing
from .play import Played, command, play

QUICK = 'echo "performance: 12.5 things_per_second"\n'
SLOW = "echo begun; sleep 300 & wait\n"


class Site:
    """`section` is the context's section of the target; `env` is what a user of the cluster has in the environment."""

    def __init__(self, home: Path, target: str, section: Mapping[str, Any], env: Mapping[str, str], **context: Any) -> None:
        self.home, self.repo, self.results = home, home / "repo", home / "results"
        self.target, self.section, self.env = target, dict(section), dict(env)
        self.context = {"gpu_vendor": "NONE", "guest_os": "UBUNTU", **context}
        self.cards: list[dict[str, Any]] = []

    def model(self, name: str, script: str, **card: Any) -> None:
        """Add a model."""
        folder = self.repo / "scripts" / ("m%d" % len(self.cards))
        folder.mkdir(parents=True)
        (folder / "run.sh").write_text(script, "utf-8")
        entry = {"name": name, "scripts": "scripts/%s/run.sh" % folder.name, "dockerfile": "docker/x", "n_gpus": "0", "tags": ["all"], "args": ""}
        self.cards.append({**entry, **card})
        (self.repo / "models.json").write_text(json.dumps(self.cards), "utf-8")

    def variables(self, section: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """What the person says."""
        context = {**self.context, self.target: {**self.section, **section}}
        known = {"mad_target": self.target, "mad_context": context, "mad_repo": str(self.repo), "mad_results": str(self.results)}
        return {**known, "mad_campaign": "c", "mad_tags": "all", "mad_report": False, **more}

    def play(self, name: str, section: Mapping[str, Any] | None = None, arguments: tuple[str, ...] = (), **more: Any) -> Played:
        """Play one of the collection's playbooks."""
        variables = self.variables(section or {}, **more)
        return play("mad.engine." + name, self.home, variables=variables, arguments=arguments, env=self.env, timeout=900)

    def playing(self, name: str, **more: Any) -> Playing:
        """The same in the background."""
        argv = command("mad.engine." + name, None, self.variables({}, **more))
        return Playing(argv, self.home, self.home / "playing.log", self.env)

    def rows(self) -> dict[str, tuple[str, str]]:
        """{model: (status, class)} of perf.csv."""
        with open(self.results / "c" / "perf.csv", encoding="utf-8", newline="") as stream:
            return {row["model"]: (row["status"], row["failure_class"]) for row in csv.DictReader(stream)}

    def logs(self) -> str:
        """The runs' logs, as they came home."""
        return "".join(path.read_text("utf-8") for path in (self.results / "c" / "runs").glob("*/run.log"))
