# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a play says about a campaign: its mad_* variables, and for each host its own context, facts and whether it answered.

Ansible puts the variables of a play and of the command line above those of the inventory. Contexts are the other way round: a host's own
is the last word. So the inventory's value is asked for without the command line's, and both travel to the plan as layers of their own.
"""

from __future__ import annotations

import copy
import functools
import os
import typing as t

import yaml

from ansible_collections.mad.engine.plugins.module_utils.base import scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.contexts import context as contexts
from ansible_collections.mad.engine.plugins.module_utils.planning import plan_options
from ansible_collections.mad.engine.plugins.module_utils.planning.plan_options import PER_HOST

PREFIX = "mad_"
_HOST_WORDS = ("context", "context_file", "target", "runtime")  # each host has its own
_LARGEST_FILE = 16 << 20  # bytes of a context file


class PlayInputs:
    """The variables of a run-once task, read through Ansible's own objects."""

    def __init__(self, task_vars: t.Mapping[str, t.Any], templar: t.Any) -> None:
        self.task_vars, self.templar = task_vars, templar
        self.hostvars = task_vars.get("hostvars", {})  # without an inventory it has no length, but knows localhost
        self._gathered: dict[str, t.Any] = {}
        self.extra = dict(getattr(getattr(self.hostvars, "_variable_manager", None), "extra_vars", None) or {})

    # -- the play ----------------------------------------------------------------------------------------------------------------

    def value(self, name: str) -> t.Any:
        """One mad_* variable of the play, None when it is not set. What every host may say for itself counts only where it is not just
        the own word of the host for which this task happens to run: that must not reach the others."""
        key = PREFIX + name
        if key not in self.task_vars:
            return None
        seen = self.templar.template(self.task_vars[key])
        return None if name in _HOST_WORDS and key not in self.extra and seen == self._own_word(key) else seen

    def _own_word(self, key: str) -> t.Any:
        name = self.task_vars.get("inventory_hostname")
        return _get(self.hostvars[name], key) if name is not None and name in self.hostvars else None

    def said(self, hosts: t.Iterable[str] = ()) -> list[str]:
        """The mad_* variables of the command line and of these hosts, without the prefix: what a person may have mistyped."""
        keys = {str(key) for variables in (self.extra, *map(self._own, hosts)) for key in variables}
        return sorted(key[len(PREFIX) :] for key in keys if key.startswith(PREFIX))

    def options(self, wanted: t.Iterable[str]) -> dict[str, t.Any]:
        """The named mad_* variables that are set."""
        return {name: value for name in wanted for value in [self.value(name)] if value is not None}

    def must_agree(self, wanted: t.Iterable[str], hosts: t.Sequence[str]) -> None:
        """InvalidInput that names a variable of the whole campaign for which the inventory gives these hosts different values."""
        names = [name for name in wanted if PREFIX + name not in self.extra]
        own = [(host, variables) for host, variables in zip(hosts, map(self._own, hosts), strict=True) if not _skipped(host, variables)]
        for name in names:
            said: dict[str, list[str]] = {}
            for host, variables in own:
                said.setdefault(_shown(_get(variables, PREFIX + name)), []).append(host)
            if len(said) > 1:
                found = ", ".join("%s for %s" % (value, scalars.named(found)) for value, found in sorted(said.items()))
                raise InvalidInput(
                    "mad_%s is one value for the whole campaign, and the inventory has several: %s; give it to all of these hosts "
                    "(group_vars/all, or -e mad_%s=...), or run them in campaigns of their own (--limit). A host can have its own %s"
                    % (name, found, name, ", ".join(PREFIX + word for word in PER_HOST))
                )

    def hosts(self) -> list[str]:
        """The hosts of this play, also those that did not answer; hosts with `mad_skip` take no part."""
        names = [str(name) for name in self.task_vars.get("ansible_play_hosts_all") or []]
        return names or [str(self.task_vars.get("inventory_hostname", "localhost"))]

    # -- hosts -------------------------------------------------------------------------------------------------------------------

    def _own(self, name: str) -> t.Any:
        """The variables of one host, which cost a while to gather."""
        if name not in self._gathered:
            self._gathered[name] = self._inventory_view[name]
        return self._gathered[name]

    @functools.cached_property
    def _inventory_view(self) -> t.Any:
        """hostvars as they are without variables of the command line; hostvars themselves where Ansible's inside has changed."""
        manager = getattr(self.hostvars, "_variable_manager", None)
        inventory, loader = getattr(self.hostvars, "_inventory", None), getattr(self.hostvars, "_loader", None)
        if not self.extra or manager is None or inventory is None or not hasattr(manager, "_extra_vars"):
            return self.hostvars
        own = copy.copy(manager)
        own._extra_vars = {}
        return type(self.hostvars)(inventory=inventory, variable_manager=own, loader=loader)

    def by_host(self, names: t.Iterable[str], facts_from: str) -> dict[str, dict[str, t.Any]]:
        """{host: entry of campaign_plan's `hosts`}; `facts_from` names the variable in which gpu_info's answer was registered."""
        found = {}
        for name in names:
            own = self._own(name)
            if _skipped(name, own):
                continue
            found[name] = self._host(own, _get(own, facts_from) if facts_from else None)
        return found

    def _host(self, own: t.Any, registered: t.Any) -> dict[str, t.Any]:
        given = {word: _get(own, PREFIX + word) for word in _HOST_WORDS}
        entry = {word: self._above(word, given[word]) for word in ("target", "runtime")}
        entry.update(context=given["context"], play_context=self.play_context, **_answer(registered))
        entry.update(context_file=given["context_file"], play_context_file=self.play_context_file)
        return entry

    def _above(self, word: str, own: t.Any) -> t.Any:
        """A plain variable: Ansible's precedence (command line, host); the play's own variables where neither has it."""
        if PREFIX + word in self.extra:
            return self.templar.template(self.extra[PREFIX + word])
        return own if not scalars.is_unset(own) else self.value(word)

    @functools.cached_property
    def play_context(self) -> t.Any:
        """The context below the hosts' own: the command line's, else the play's."""
        return self.value("context")

    @functools.cached_property
    def play_context_file(self) -> t.Any:
        """The context file below the hosts' own."""
        return self.value("context_file")


def slips(task_vars: t.Mapping[str, t.Any]) -> list[str]:
    """Warnings about mistyped mad_* variables, for the plays that make no plan."""
    return plan_options.slips(PlayInputs(task_vars, None).said())


def _get(variables: t.Any, name: str) -> t.Any:
    return variables[name] if name in variables else None


def _skipped(host: str, variables: t.Any) -> bool:
    return scalars.to_bool(_get(variables, PREFIX + "skip") or False, "mad_skip of host %s" % host)


def _shown(value: t.Any) -> str:
    return "nothing" if scalars.is_unset(value) else scalars.shown(value)


def _answer(registered: t.Any) -> dict[str, t.Any]:
    """facts, unreachable and reason out of a registered result of gpu_info."""
    if not isinstance(registered, t.Mapping):
        return {"facts": None, "unreachable": False, "reason": ""}
    gone = bool(registered.get("unreachable"))
    failed = gone or bool(registered.get("failed"))
    return {
        "facts": None if failed else registered.get("facts"),
        "unreachable": gone,
        "reason": str(registered.get("msg") or "") if failed else "",
    }


class _Unique(yaml.SafeLoader):
    """YAML in which a key stands once: of two equal ones, one would be dropped in silence."""

    def compose_mapping_node(self, anchor: t.Any) -> t.Any:
        """A mapping before anything is merged into it."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _value in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, "the key %r stands there twice" % key.value, key.start_mark)
            seen.add((key.tag, key.value if isinstance(key, yaml.ScalarNode) else None))
        return node


def load_context_file(path: str) -> dict[str, t.Any]:
    """A context file on the controller: YAML by its name (.yml, .yaml), else JSON or a Python literal."""
    full, what = os.path.expanduser(path), "mad_context_file %s" % path
    try:
        if os.path.getsize(full) > _LARGEST_FILE:
            raise InvalidInput("%s is larger than %d bytes" % (what, _LARGEST_FILE))
        with open(full, encoding="utf-8-sig") as stream:
            text = stream.read()
    except OSError as error:
        raise InvalidInput("%s cannot be read: %s" % (what, error.strerror)) from error
    except UnicodeDecodeError as error:
        raise InvalidInput("%s is not UTF-8 text" % what) from error
    if not full.endswith((".yml", ".yaml")):
        return contexts.load_text(text, what)
    try:
        return contexts.load_text(yaml.load(text, Loader=_Unique), what)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInput("%s is not valid YAML: %s" % (what, error)) from error
