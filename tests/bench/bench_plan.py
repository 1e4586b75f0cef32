# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What planning costs: 100 models on 500 hosts, in CPU seconds and as a ratio to writing the plan down as JSON; and what one host reads of it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(os.environ.get("MAD_DEV_HOME") or Path(__file__).resolve().parents[2]) / ".dev" / "tree"))

from ansible_collections.mad.engine.plugins.module_utils.planning import plan, plan_continue  # noqa: E402 the path comes first
from ansible_collections.mad.engine.plugins.module_utils.results.campaign import Campaign  # noqa: E402
from ansible_collections.mad.engine.tests.support import plans  # noqa: E402

MODELS, HOSTS = 100, 500
TARGET_RATIO = 2.5  # planning against json.dumps of the result
TARGET_PART = 0.05  # CPU seconds for one host's part


def spent(action):
    """(result, CPU seconds)."""
    before = time.process_time()
    result = action()
    return result, time.process_time() - before


def make_models(repo: Path) -> list:
    """Models with a script directory and two Dockerfiles each."""
    cards = []
    for number in range(MODELS):
        name = "m%d" % number
        (repo / "scripts" / name).mkdir(parents=True)
        (repo / "scripts" / name / "run.sh").write_text("echo %d\n" % number)
        for vendor in ("amd", "nvidia"):
            (repo / "docker" / ("%s.ubuntu.%s.Dockerfile" % (name, vendor))).write_text(plans.header(gpu_vendor=vendor.upper()))
        cards.append(plans.card(name, dockerfile="docker/" + name, scripts="scripts/%s/run.sh" % name))
    return cards


def make_hosts() -> dict:
    """Hosts of two vendors, each with its own context and facts; some do not answer."""
    hosts = {}
    for number in range(HOSTS):
        layer = {"env_vars": {"NCCL_DEBUG": "INFO"}, **({"docker_gpus": "0-3"} if number % 50 == 0 else {})}
        known = plans.facts(count=8, boot_id=str(number)) if number % 2 else plans.facts("NVIDIA", 8, "H100", boot_id=str(number))
        hosts["n%03d" % number] = plans.unreachable(layer) if number % 100 == 0 else plans.host(layer, known)
    return hosts


def main() -> int:
    """Print the numbers; the exit status says whether the targets were met."""
    with tempfile.TemporaryDirectory() as folder:
        repo = plans.repository(Path(folder) / "repo")
        cards, hosts = make_models(repo), make_hosts()
        made, planning = spent(lambda: plan.make_plan(cards, hosts, {"campaign": plans.CAMPAIGN}, str(repo)))
        whole, continuing = spent(lambda: plan_continue.continue_plan(made, None, {}, {}))
        text, dumping = spent(lambda: json.dumps(whole))
        table, showing = spent(lambda: plan.flight_plan(whole, {}))
        campaign = Campaign(str(Path(folder) / "results" / plans.CAMPAIGN))
        _changed, saving = spent(lambda: campaign.save_plan(whole))
        part, reading = spent(lambda: campaign.host_plan("n123"))
    ratio = planning / dumping
    print("   %d models x %d hosts = %d runs (%d MB of JSON)" % (MODELS, HOSTS, len(whole["runs"]), len(text) >> 20))
    print(
        "   plan %.1f s CPU (%.1f of json.dumps of it, target %.1f), continue %.1f s, table of %d lines %.1f s, save %.1f s"
        % (planning, ratio, TARGET_RATIO, continuing, len(table.splitlines()), showing, saving)
    )
    print("   one host's part: %d runs in %.3f s CPU (target %.2f)" % (len(part["runs"]), reading, TARGET_PART))
    return 0 if ratio <= TARGET_RATIO and reading <= TARGET_PART else 1


if __name__ == "__main__":
    sys.exit(main())
