#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of mad.engine.model_info; the action plugin of the same name does the work."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_info
short_description: Find the models of a repository by tag
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Reads the model cards of a MAD-layout repository on the controller and returns those that the tags select, in one regular form.
  - Models come from C(models.json), which must be there, from every C(scripts/*/models.json), and from every
    C(scripts/*/get_models_json.py), whose models carry the name of their directory in front (C(DIR/NAME)).
  - A C(get_models_json.py) is the repository's own Python. It runs in a process of its own with the rights of whoever runs the play,
    never inside Ansible; its C(CustomModel) is importable from C(madengine.utils.discover_models) and C(madengine.tools.discover_models).
    Use repositories that you trust.
  - The repository is never written to.
options:
  repo:
    description:
      - The repository, a directory on the controller.
      - Without it, the environment variable E(MODEL_DIR) names it, and without that it is the current directory.
    type: path
  tags:
    description:
      - Which models to select. A text with commas is a list, too. Without tags no model is selected, and all names are returned.
      - C(NAME) selects the model of this full name and every model that has this tag, C(all) every model.
      - C(DIR/NAME), C(DIR/TAG) and C(DIR/all) select inside C(scripts/DIR) and run no other directory's Python.
      - Each can be followed by arguments, C(NAME:batch-size=32:verbose) appends C( --batch-size 32 --verbose) to the card's own.
      - C(DIR:NAME) is the same as C(DIR/NAME) where nothing else is called C(DIR).
      - A model selected twice with the same arguments is returned once, with a warning. A tag that selects nothing is an error that names
        what resembles it.
    type: list
    elements: str
    default: []
  output:
    description:
      - A file on the controller to which the selected models are written as a JSON list, in one step.
      - Without O(tags) it gets every model, as with C(all).
    type: path
  cache_dir:
    description:
      - Where the answers of C(get_models_json.py) files are kept. One is used again as long as the files of its directory, what else it
        read, the environment variables it asked for and the Python are the same; never if it asked the network or other programs.
      - Without it, C(mad.engine/discovery) below E(XDG_CACHE_HOME) or C(~/.cache). It is used in check mode, too.
    type: path
  timeout:
    description:
      - Seconds that each C(get_models_json.py) may take before it is killed with everything it started.
    type: float
    default: 60.0
  show:
    description:
      - Also print the answer for a person - all names, or with O(tags) the selected models as JSON.
      - Nothing is printed under a stdout callback that writes JSON.
    type: bool
    default: false
attributes:
  check_mode:
    description: Everything is done but the writing of O(output).
    support: full
  diff_mode:
    description: Shows what changes in O(output).
    support: full
  connection:
    description: Runs wholly on the controller and opens no connection.
    support: none
seealso:
  - name: The dicts that travel
    description: The normal form of a model card.
    link: https://github.com/mad-engine/mad.engine/blob/main/docs/contracts.md
"""

EXAMPLES = r"""
- name: List the names of all models
  mad.engine.model_info:
    repo: /srv/mad
  register: all_models

- name: Select two groups and one model with arguments
  mad.engine.model_info:
    repo: /srv/mad
    tags:
      - dummy_group_1
      - dummy2/all
      - dummy3/model3:batch-size=512:in=32
  register: selected

- name: Write the selected models to a file
  mad.engine.model_info:
    repo: /srv/mad
    tags: dummy,dummy2/model1
    output: /tmp/models.json
"""

RETURN = r"""
models:
  description:
    - The selected models in tag order, for each tag the root's first. Keys that are unknown are kept as they are.
    - Without O(tags) it is empty.
  type: list
  elements: dict
  returned: success
  sample:
    - name: dummy2/model2
      dockerfile: docker/dummy
      scripts: scripts/dummy2/run.sh
      args: " --batch-size 32"
      tags: [dummies]
      n_gpus: "1"
      skip_gpu_arch: []
      env_vars: {}
      multiple_results: ""
      additional_docker_run_options: ""
      source: scripts/dummy2/models.json
names:
  description: The names of the selected models, or without O(tags) those of all models.
  type: list
  elements: str
  returned: success
  sample: [dummy, dummy2/model1, dummy2/model2]
count:
  description: How many names there are.
  type: int
  returned: success
  sample: 3
output:
  description: The file that holds the selected models.
  type: str
  returned: when O(output) is given
  sample: /tmp/models.json
"""
