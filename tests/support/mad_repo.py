# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A MAD repository of a test's own, the plays that build and run it, and what came home."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from .play import Played, play

NUMBER = 'echo "performance: 12.5 things_per_second"\n'


class MadRepo:
    """Models on the tiny image whose names nobody else has. Every play has its own results, work folders and machine lock."""

    def __init__(self, home: Path, base: str) -> None:
        self.home, self.folder, self.base = home, home / "repo", base
        self.results = home / "results"
        self.mark = "t" + uuid.uuid4().hex[:8]
        self.cards: list[dict[str, Any]] = []
        self.inventory: Path | None = None
        self.engines: list[list[str]] = [["docker"]]  # where images with our mark are removed at the end
        self.environments: list[dict[str, str]] = [dict(os.environ)]
        (self.folder / "docker").mkdir(parents=True)

    # -- what is in it -------------------------------------------------------------------------------------------------------------

    def model(self, name: str, script: str = NUMBER, *lines: str, **card: Any) -> str:
        """Add a model with scripts/<name>/run.sh and a Dockerfile with these lines; returns its full name."""
        full = "%s_%s" % (self.mark, name)
        self.write("scripts/%s/run.sh" % name, script)
        self.write("docker/%s.ubuntu.Dockerfile" % name, "\n".join(self.head() + ["LABEL own=" + full, *lines, ""]))
        entry = {"name": full, "dockerfile": "docker/" + name, "scripts": "scripts/%s/run.sh" % name, "n_gpus": "0", "args": ""}
        self.cards.append({**entry, "tags": ["all_of_them", name], **card})
        self.save()
        return full

    def head(self) -> list[str]:
        """The first lines of a Dockerfile."""
        return ["# CONTEXT {'guest_os': 'UBUNTU'}", "ARG BASE_DOCKER=" + self.base, "FROM $BASE_DOCKER"]

    def save(self) -> None:
        """Write models.json."""
        self.write("models.json", json.dumps(self.cards))

    def write(self, name: str, text: str) -> Path:
        """Write a file of the repository."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def image(self, name: str) -> str:
        """The name of a model's image."""
        return "ci-%s_%s_%s.ubuntu" % (self.mark, name, name)

    # -- plays ---------------------------------------------------------------------------------------------------------------------

    def play(self, playbook: str, tags: str, *arguments: str, campaign: str = "c1", **variables: Any) -> Played:
        """Run a playbook of the collection; `env` and `timeout` go to play(), a variable that is None is not set."""
        words = {name: variables.pop(name) for name in ("env", "timeout") if name in variables}
        known = {
            "mad_repo": str(self.folder),
            "mad_results": str(self.results),
            "mad_work_dir": str(self.home / "work"),
            "mad_host_lock": "%s/{{ inventory_hostname }}.lock" % self.home,  # hosts of one machine need not wait for one another
            "mad_campaign": campaign,
            **({"mad_tags": tags} if tags else {}),
            **variables,
        }
        known = {name: value for name, value in known.items() if value is not None}
        return play("mad.engine." + playbook, self.home, inventory=self.inventory, variables=known, arguments=arguments, **words)

    def build(self, tags: str = "all_of_them", *arguments: str, **variables: Any) -> Played:
        """mad.engine.build"""
        return self.play("build", tags, *arguments, **variables)

    def run(self, tags: str = "all_of_them", *arguments: str, **variables: Any) -> Played:
        """mad.engine.run"""
        return self.play("run", tags, *arguments, **variables)

    # -- what came of it -----------------------------------------------------------------------------------------------------------

    def read(self, name: str, campaign: str = "c1") -> Any:
        """A JSON file of the campaign."""
        return json.loads((self.results / campaign / name).read_text("utf-8"))

    def last_summary(self) -> dict[str, Any]:
        """What the last play said, also one that was refused."""
        return dict(json.loads((self.results / "last-summary.json").read_text("utf-8")))

    def records(self, campaign: str = "c1") -> list[dict[str, Any]]:
        """Every record of the campaign."""
        return [json.loads(path.read_text("utf-8")) for path in sorted((self.results / campaign / "runs").glob("*/result.json"))]

    def record(self, name: str, host: str = "", campaign: str = "c1") -> dict[str, Any]:
        """The one record of a model (on one host)."""
        full = "%s_%s" % (self.mark, name)
        found = [one for one in self.records(campaign) if one["model"] == full and host in ("", one["place"]["host"])]
        assert len(found) == 1, "%d records of %s" % (len(found), full)
        return found[0]

    def log(self, record: dict[str, Any], name: str = "run.log") -> str:
        """A log of a run."""
        return (self.results / record["campaign"] / "runs" / record["run_id"] / name).read_text("utf-8", errors="replace")

    # -- the end -------------------------------------------------------------------------------------------------------------------

    def also_on(self, argv: Sequence[str], environment: dict[str, str] | None = None) -> None:
        """Name another engine that gets our images."""
        self.engines.append(list(argv))
        self.environments.append({**os.environ, **(environment or {})})

    def close(self) -> None:
        """Remove our containers and images from every engine."""
        for argv, environment in zip(self.engines, self.environments):
            for kind, columns, remove in (
                ("ps", "{{.Names}} {{.Image}}", ["rm", "--force", "--volumes"]),
                ("images", "{{.Repository}}:{{.Tag}} .", ["rmi", "--force"]),
            ):
                listing = [*argv, kind, *(["--all"] if kind == "ps" else []), "--format", columns]
                lines = subprocess.run(listing, capture_output=True, text=True, check=False, env=environment).stdout.splitlines()
                names = [line.split()[0] for line in lines if self.mark in line]
                if names:
                    subprocess.run([*argv, *remove, *names], capture_output=True, check=False, env=environment)


@pytest.fixture()
def mad_repo(tmp_path: Path, tiny_image: str) -> Iterator[MadRepo]:
    """Give an empty MAD repository on the tiny image."""
    found = MadRepo(tmp_path, tiny_image)
    yield found
    found.close()
