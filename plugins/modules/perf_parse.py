#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: perf_parse
short_description: Read the metrics and errors out of the log of a model
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Reads a log that lies on the host, once and in constant memory, with the rules that decide every run of this collection.
  - A result is a line C(performance:<blank><number> <metric>); the first one counts.
  - Without such a line, C(train_samples_per_second) is looked for.
  - A line with an error pattern makes a failure, unless a benign text excuses the line.
options:
  path:
    description: The log.
    type: path
    required: true
  multiple_results:
    description:
      - A CSV file with the columns C(model), C(performance) and C(metric), and any others, one result a row.
      - When given, the results come from there and performance lines of the log do not count.
    type: path
    default: ""
  exit_code:
    description: How the model's process ended. Anything but 0 is a failure, whatever it printed.
    type: int
    default: 0
  model:
    description: Name of the model, for messages.
    type: str
    default: ""
  log_error_pattern_scan:
    description: Whether to look for error patterns.
    type: bool
    default: true
  log_error_patterns:
    description: Plain texts that mean an error, in place of the built-in ones.
    type: list
    elements: str
    default: []
  log_error_benign_patterns:
    description: Plain texts that excuse the line they stand in, besides the built-in ones.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: It only reads.
  diff_mode:
    support: none
    description: It changes nothing.
"""

EXAMPLES = r"""
- name: What did that job measure?
  mad.engine.perf_parse:
    path: /home/bench/slurm-4711.out
  register: parsed

- name: Show it
  ansible.builtin.debug:
    msg: "{{ parsed.status }}: {{ parsed.metrics | map(attribute='text') | join(', ') }}"

- name: Several results, and a warning that this model always prints
  mad.engine.perf_parse:
    path: run.log
    multiple_results: perf_llama.csv
    log_error_benign_patterns:
      - "ValueError: ignored by the tokenizer"
"""

RETURN = r"""
status:
  description: V(SUCCESS) or V(FAILURE).
  type: str
  returned: success
failure_class:
  description: One of the failure classes, empty on success.
  type: str
  returned: success
  sample: error_pattern
reason:
  description: Why it is a failure, empty on success.
  type: str
  returned: success
metrics:
  description:
    - The results. C(value) is null for a performance that is no number.
    - C(better) is V(higher), V(lower), or empty when the unit is not known.
  type: list
  elements: dict
  returned: success
  sample:
    - {name: samples_per_second, value: 14164.0, text: "14164", unit: samples_per_second, better: higher, row: "", extra: {}}
errors:
  description: Lines with an error pattern, at most 100 of them, each with C(pattern), C(line) (at most 300 characters) and C(number).
  type: list
  elements: dict
  returned: success
excerpt:
  description: The last lines of the log, at most 50; empty on success.
  type: list
  elements: str
  returned: success
bytes:
  description: Size of the log.
  type: int
  returned: success
lines:
  description: Number of its lines.
  type: int
  returned: success
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.results import perf, status

ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "multiple_results": {"type": "path", "default": ""},
    "exit_code": {"type": "int", "default": 0},
    "model": {"type": "str", "default": ""},
    "log_error_pattern_scan": {"type": "bool", "default": True},
    "log_error_patterns": {"type": "list", "elements": "str", "default": []},
    "log_error_benign_patterns": {"type": "list", "elements": "str", "default": []},
}


def read(params: Dict[str, Any]) -> Dict[str, Any]:
    """What RETURN names, out of the module's parameters. MadError when the log cannot be read or a pattern is no pattern."""
    run = {
        "model": params["model"] or params["path"],
        "multiple_results": params["multiple_results"],
        "scan": perf.make_scan({}, params),
    }
    parsed = perf.parse_run(run, params["path"], params["multiple_results"])
    problem = parsed["problem"]
    if problem and problem["class"] == "infra":  # the log itself, not what the model left behind
        raise MadError(problem["reason"])
    decision = status.decide(run, {"launched": True, "exit_code": params["exit_code"]}, parsed)
    answer = {key: parsed[key] for key in ("metrics", "errors", "bytes", "lines")}
    return dict(decision, excerpt=parsed["excerpt"] if decision["status"] != status.SUCCESS else [], **answer)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        answer = read(module.params)
    except MadError as error:
        module.fail_json(msg=error.message)
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
