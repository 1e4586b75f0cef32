#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: campaign_plan
short_description: Decide what a campaign runs where, before anything executes
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Turns models, hosts and repeats into runs with content ids, and writes them to C(plan.json) in the campaign's folder on the controller.
  - Runs wholly on the controller, once for the whole play (C(run_once=true)), also when no host answers. It changes nothing on any host.
  - What is wrong with one model becomes a row of its own (C(FAILURE) or C(SKIPPED) with a reason) and never stops the others.
    What concerns all of them (a bad option, a bad context, no tags) fails the task.
  - The context of a host is merged from layers, lowest first. These are presets of its target, O(manifest), E(mad_context_file) of the
    play or the command line, that of the host, E(mad_context) of the play or the command line, that of the inventory for this host,
    E(mad_target).
  - A named campaign that exists is continued. Rows that are final are kept, attempts that a host has taken over are attached to,
    E(mad_rerun) decides what runs again.
options:
  repo:
    description: Folder of the model repository. By default E(mad_repo), E(MODEL_DIR), else the current folder.
    type: str
  tags:
    description: Tags that select models, as a list or as text with commas. By default E(mad_tags).
    type: raw
  manifest:
    description: A build manifest to run from. Nothing is discovered or built then. By default E(mad_manifest).
    type: str
  hosts:
    description:
      - The hosts to plan for, as a list of names, or as a dictionary of what is known of each.
      - Its entries may hold V(context), V(play_context) (each a dictionary, JSON or Python-literal text), V(context_file),
        V(play_context_file), V(target), V(runtime), V(facts), V(unreachable), V(reason).
      - By default all hosts of the play; for a list, and by default, everything is taken from the hosts' variables. That also keeps a
        host's own E(mad_context) above the one of the command line.
    type: raw
  facts:
    description: Name of the variable in which the result of M(mad.engine.gpu_info) was registered on each host.
    type: str
    default: mad_facts
  options:
    description:
      - The C(mad_*) options without their prefix. By default the play's variables of these names.
      - Understood are V(timeout), V(repeats), V(repeats_max), V(retries), V(rerun), V(runtime), V(target), V(target_archs), V(build_host), V(registry),
        V(results), V(campaign), V(credential_file), V(keep_alive), V(keep_model_dir), V(skip_model_run), V(ignore_deprecated),
        V(disable_skip_gpu_arch), V(build_only), V(summary_output).
      - V(data_config), V(tools_config), V(force_mirror_local), V(batch_manifest), V(use_image) and V(sys_env_details) are refused.
    type: dict
  further:
    description:
      - Which models run more often than E(mad_repeats) says, as RV(mad.engine.perf_compare#module:further) names them, each with V(model),
        V(args), V(host) and V(repeats). Runs that have their row are not run again.
      - Asked for again in one play, so with O(campaign); E(mad_rerun) has had its effect then.
    type: list
    elements: dict
  campaign:
    description: The campaign, by default E(mad_campaign), else a new one.
    type: str
  cache_dir:
    description: Where answers of C(get_models_json.py) are kept. By default C(mad.engine/discovery) in the user's cache folder.
    type: str
attributes:
  check_mode:
    support: full
    description: Plans in full and writes nothing.
  diff_mode:
    support: full
    description: Shows the flight plan; what is already done stands on the left.
seealso:
  - module: mad.engine.model_info
  - module: mad.engine.gpu_info
  - module: mad.engine.image_build
  - module: mad.engine.container_run
"""

EXAMPLES = r"""
- name: What each host is
  mad.engine.gpu_info:
  register: mad_facts
  ignore_unreachable: true

- name: Plan with the play's mad_* variables for all of its hosts
  mad.engine.campaign_plan:
  run_once: true
  register: mad_plan

- name: Plan two models for one host, everything said here
  mad.engine.campaign_plan:
    repo: /srv/MAD
    tags: [dummy, "dummy2/model1:batch_size=32"]
    hosts:
      n1:
        context: "{'gpu_vendor': 'AMD', 'docker_gpus': '0-3'}"
        facts: "{{ mad_facts.facts }}"
    options:
      results: /srv/results
      repeats: 3
  run_once: true
"""

RETURN = r"""
campaign:
  description: Name of the campaign.
  type: str
  returned: success
campaign_dir:
  description: Its folder on the controller.
  type: str
  returned: success
plan:
  description: Path of C(plan.json), which holds every run (see C(docs/contracts.md)).
  type: str
  returned: success
counts:
  description: Numbers of the whole campaign. V(execute) counts the runs that need work on a host in this play.
  type: dict
  returned: success
  sample: {total: 12, done: 4, success: 3, failure: 1, skipped: 0, running: 0, queued: 8, execute: 8}
hosts:
  description:
    - For each host the number of V(runs) that need it in this play, its V(target), its V(login_node) if another host works for it,
      its V(runtime), whether it is V(reachable).
    - V(collect) counts ended runs whose logs are still on the host, because an earlier play was killed before it had them.
  type: dict
  returned: success
  sample: {n1: {runs: 4, collect: 0, target: local, login_node: "", runtime: docker, reachable: true}}
build_hosts:
  description: Hosts that build images for this play, each with how many.
  type: dict
  returned: success
  sample: {n1: 3}
resume_command:
  description: The command line that takes this campaign up again. Secrets in it are hidden.
  type: str
  returned: success
baseline:
  description: What E(mad_repeats_max) compares with, C(last) resolved to the campaigns that are the newest now; empty without it.
  type: list
  elements: str
  returned: success
  sample: [nightly-20261121]
flight_plan:
  description: The plan as a table for a person.
  type: str
  returned: success
exit_code:
  description:
    - madengine's exit code of a refusal, which also stands in C(last-summary.json).
    - V(4) bad arguments, V(1) discovery, V(2) nobody can build.
  type: int
  returned: failure
"""

# The action plugin does everything; this file only holds the documentation.
