# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""mad.engine.run when somebody dies: a host, its boot, the controller at any moment. Rows all the same, nothing twice, nothing left behind.

MAD_KILLS is how often the controller is killed (5), MAD_SEED repeats a run of chances.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

from ansible_collections.mad.engine.tests.support.bench_host import image_id
from ansible_collections.mad.engine.tests.support.campaigns import BEGIN, END, GATED, Campaigns, campaigns

__all__ = ["campaigns"]  # a fixture
KILLS = int(os.environ.get("MAD_KILLS") or 5)
SEED = int(os.environ.get("MAD_SEED") or random.SystemRandom().randrange(1 << 32))
# Tasks before which, during which or after which the controller dies.
MOMENTS = (
    "Start the runs of this host",
    "Ask how far the runs are",
    "Bring logs and artifacts home",
    "Remove what",
)


def containers(campaign: str) -> list[str]:
    """Names of all containers of a campaign."""
    argv = ["docker", "ps", "-a", "--format", "{{.Names}}", "--filter", "label=mad.campaign=" + campaign]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def test_a_host_that_dies_costs_only_itself(campaigns: Campaigns) -> None:
    """Its rows are lost_contact, the others succeed; when it is back, the campaign completes what is missing and nothing else."""
    for name in ("n1", "n2", "n3"):
        campaigns.host(name)
    for name, script in (("a", BEGIN + END), ("b", GATED), ("c", BEGIN + END)):
        campaigns.model(name, script)
    playing = campaigns.start(mad_contact_timeout=4)
    campaigns.until(lambda: campaigns.executed("begin")["n1", "b"] and ("n1", "a") in campaigns.states(), "n1 is in its second run")
    campaigns.lose_power("n1")
    campaigns.open("n2", "n3")
    died = playing.wait()
    assert died.status != 0 and campaigns.summary()["exit_code"] == 3, died.output
    others = {(host, model): "SUCCESS" for host in ("n2", "n3") for model in ("a", "b", "c")}
    assert campaigns.states() == {**others, ("n1", "a"): "SUCCESS", ("n1", "b"): "lost_contact", ("n1", "c"): "lost_contact"}
    campaigns.fleet.hosts["n1"].start()
    campaigns.open("n1")
    campaigns.play()  # finds out what became of the one that ran, and runs the one that had not begun
    assert campaigns.states() == {**others, ("n1", "a"): "SUCCESS", ("n1", "b"): "infra", ("n1", "c"): "SUCCESS"}
    last = campaigns.play()
    assert last.status == 0 and set(campaigns.states().values()) == {"SUCCESS"}, last.output
    assert campaigns.executed() == dict.fromkeys(campaigns.states(), 1)
    assert campaigns.executed("begin") == {**dict.fromkeys(campaigns.states(), 1), ("n1", "b"): 2}
    assert campaigns.records()["n1", "b"]["attempt"] == 2 and campaigns.processes() == []


def test_a_host_that_reboots(campaigns: Campaigns, tmp_path: Path) -> None:
    """The same play finds the host again with another boot id: infra; the next one runs it again."""
    boot = tmp_path / "boot_id"
    boot.write_text("the-first-boot\n")
    campaigns.host("n1", local_boot_id_file=str(boot))
    campaigns.model("a", GATED)
    campaigns.model("b")
    playing = campaigns.start(mad_contact_timeout=60)
    campaigns.until(lambda: campaigns.executed("begin")["n1", "a"], "the first run")
    campaigns.lose_power("n1")
    boot.write_text("the-second-boot\n")
    campaigns.fleet.hosts["n1"].start()
    campaigns.open()
    first = playing.wait()
    assert first.status != 0 and campaigns.states() == {("n1", "a"): "infra", ("n1", "b"): "SUCCESS"}, first.output
    assert "rebooted" in campaigns.records()["n1", "a"]["reason"]
    second = campaigns.play()
    assert second.status == 0 and set(campaigns.states().values()) == {"SUCCESS"}, second.output
    assert campaigns.executed() == {("n1", "a"): 1, ("n1", "b"): 1}


def test_a_host_that_takes_nothing(campaigns: Campaigns, tmp_path: Path) -> None:
    """Staging fails on one host: its rows say so at once, nobody waits for it, and once it is mended the campaign completes."""
    wall = tmp_path / "wall"
    wall.write_text("no folder\n")
    campaigns.host("n1", mad_work_dir=str(wall / "work"))
    campaigns.host("n2")
    campaigns.model("a")
    begun = time.monotonic()
    failed = campaigns.play()
    assert failed.status != 0 and time.monotonic() - begun < 60, failed.output
    assert campaigns.states() == {("n1", "a"): "infra", ("n2", "a"): "SUCCESS"}
    assert str(wall) in campaigns.records()["n1", "a"]["reason"]
    wall.unlink()
    wall.mkdir()
    mended = campaigns.play()
    assert mended.status == 0 and set(campaigns.states().values()) == {"SUCCESS"}, mended.output
    assert campaigns.executed() == dict.fromkeys(campaigns.states(), 1)


def kill_once(campaigns: Campaigns, campaign: str, moment: str, chance: random.Random) -> None:
    """Start the campaign, or go on with it, and kill the controller at a chosen moment (or let it end when that never comes)."""
    playing = campaigns.start(campaign=campaign)
    reached = "TASK [mad.engine.local : %s" % moment
    campaigns.until(lambda: reached in playing.output() or playing.process.poll() is not None, moment)
    time.sleep(chance.uniform(0, 1.5))
    playing.kill()


def test_the_controller_is_killed(campaigns: Campaigns, tiny_image: str) -> None:
    """SIGKILL at random moments of staging, start, polling, collecting and cleaning; then the same rows as a campaign that nobody disturbed.

    One host runs its models in containers, the other without.
    """
    chance = random.Random(SEED)
    print("MAD_SEED=%d MAD_KILLS=%d" % (SEED, KILLS))
    assert image_id(tiny_image)
    mounts = {"docker_mounts": {str(campaigns.home): str(campaigns.home)}, "MAD_CONTAINER_IMAGE": tiny_image}
    campaigns.host("n1", mad_runtime="host")
    campaigns.host("n2", mad_runtime="docker", context=mounts)
    for name in ("a", "b", "c"):
        campaigns.model(name, BEGIN + "sleep 0.7\n" + END)
    campaigns.play(campaign="calm")
    calm = campaigns.states("calm")
    assert len(calm) == 6 and set(calm.values()) == {"SUCCESS"}, campaigns.playing[-1].output()
    killed = 0
    moments = list(MOMENTS)
    while killed < KILLS:
        campaign = "killed-%d" % killed
        campaigns.marks.write_text("")
        for moment in moments[: KILLS - killed]:
            kill_once(campaigns, campaign, moment, chance)
            killed += 1
        last = campaigns.play(campaign=campaign)
        assert last.status == 0 and campaigns.states(campaign) == calm, last.output
        assert campaigns.executed() == campaigns.executed("begin") == dict.fromkeys(calm, 1), "executed twice"
        for one in campaigns.records(campaign).values():
            assert (campaigns.results / campaign / "runs" / one["run_id"] / "run.log").exists(), "its log did not come home"
        assert campaigns.processes() == [] and containers(campaign) == []
