# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation says what is so: every block of it runs, tables are those of the code, the API reference is that of the docstrings.

`python` and `sh` blocks of a page run in one folder, from top to bottom. A block that begins with `# file: NAME` is written to that file;
`text`, `json` and `yaml` blocks without it are shown only, and must parse where they claim to be JSON or YAML.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import api

from training_engine.exitcodes import TABLE

ROOT = Path(__file__).parents[1]
DOCS = ROOT.parents[2] / "docs" / "training"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
SHOWN = {"text"}


def _pages() -> list[Path]:
    return sorted(DOCS.glob("*.md"))


def _run(language: str, text: str, folder: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-c", text] if language == "python" else ["sh", "-euc", text]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("page", _pages(), ids=lambda page: page.stem)
def test_every_block_runs(page, tmp_path):
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        named = re.match(r"# file: (\S+)\n", text)
        if named:
            target = tmp_path / named[1]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text[named.end():], encoding="utf-8")
        elif language in ("python", "sh"):
            _run(language, text, tmp_path)
        elif language == "json":
            json.loads(text)
        elif language == "yaml":
            pytest.importorskip("yaml").safe_load(text)
        else:
            assert language in SHOWN, f"{page.name} has a block of {language}, which nobody runs"


def test_there_are_pages_and_their_links_lead_somewhere():
    assert len(_pages()) > 8
    for page in _pages():
        for target in re.findall(r"\]\(([^)#:]+?\.md)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_reference_is_that_of_the_docstrings():
    assert api.TARGET.read_text(encoding="utf-8") == api.document(), "run: python tests/support/api.py"


def test_the_exit_codes_are_those_of_the_code():
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+?) \| (.+?) \|$", (DOCS / "resuming.md").read_text(encoding="utf-8"), re.M)
    assert rows == [(str(code.value), code.name, *texts) for code, texts in TABLE.items()]
