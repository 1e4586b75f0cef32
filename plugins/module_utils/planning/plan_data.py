# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data of a model: what data.json of the repository says of the names under its card's key 'data', and whether somebody brings it.

Nobody fetches data yet. A name without a provider needs nobody to: its model fetches the data itself, as those with
`"data": "huggingface"` do. A name with providers runs where the context says that the data is there.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, List, Mapping, Optional

from ..base.errors import InvalidInput
from .plan_env import DATA_HOME
from .plan_repo import DATA, Repository


def names(card: Mapping[str, Any]) -> List[str]:
    """The names under a card's key `data`."""
    return [name.strip() for name in str(card.get("data") or "").split(",") if name.strip()]


def check(card: Mapping[str, Any], context: Mapping[str, Any], repository: Repository) -> None:
    """InvalidInput for a model whose data nobody brings; nothing is asked where the context has MAD_DATAHOME."""
    if not names(card) or DATA_HOME in dict(context.get("env_vars", {}), **context.get("docker_env_vars", {})):
        return
    known = _definitions(repository)
    if known is None:
        return
    for name in names(card):
        if name not in known:
            raise InvalidInput(
                "model %s: the key 'data': Unknown data name %s. Define it in %s of the repository %s ({} there: the model fetches it itself), or "
                "set docker_env_vars.%s in mad_context to where the model finds it" % (card["name"], _shown(name), DATA, repository.path, DATA_HOME)
            )
        _check_providers(card, name, known[name], repository)


def notes(cards: Iterable[Mapping[str, Any]], repository: Repository) -> List[str]:
    """What a person should know who has models with data and no data.json."""
    found = dict.fromkeys(name for card in cards for name in names(card))
    if not found or repository.is_file(DATA):
        return []
    return [
        "the repository has no %s: the models that name data under their key 'data' (%s) have to fetch it themselves"
        % (DATA, ", ".join(map(_shown, list(found)[:10])))
    ]


def _shown(name: str) -> str:
    return json.dumps(name[:80], ensure_ascii=False)


def _definitions(repository: Repository) -> Optional[Dict[str, Any]]:
    """data.json: {name: {provider: {path, ...}}}; nothing where the repository has none."""
    found = repository.data()
    if found is not None and not isinstance(found, dict):
        raise InvalidInput(
            '%s/%s: expected an object {"NAME": {"PROVIDER": {"path": "..."}}}, not %s' % (repository.path, DATA, type(found).__name__)
        )
    return found


def _check_providers(card: Mapping[str, Any], name: str, providers: Any, repository: Repository) -> None:
    """InvalidInput unless there are none."""
    where = "%s/%s, key %s" % (repository.path, DATA, _shown(name))
    if not isinstance(providers, Mapping):
        raise InvalidInput('%s: expected an object {"PROVIDER": {"path": "..."}}, not %s' % (where, type(providers).__name__))
    if not providers:
        return
    local = providers.get("local")
    path = local.get("path") if isinstance(local, Mapping) else None
    raise InvalidInput(
        "model %s: the key 'data' (%s) needs a data provider (%s in %s), and these come in a later release; bring the data to the host "
        "yourself, mount it and say where the model finds it, in mad_context: "
        % (card["name"], _shown(name), ", ".join(map(str, providers))[:80], DATA)
        + json.dumps({"docker_mounts": {"/data": path if isinstance(path, str) else "/where/it/is"}, "docker_env_vars": {DATA_HOME: "/data"}})
    )
