# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes objects of one attempt of a run, out of the role's templates; on the controller, where Jinja is."""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import typing as t

import jinja2
import yaml

from ansible_collections.mad.engine.plugins.module_utils.base import quoting, scalars
from ansible_collections.mad.engine.plugins.module_utils.base.errors import InvalidInput
from ansible_collections.mad.engine.plugins.module_utils.containers import engine
from ansible_collections.mad.engine.plugins.module_utils.host import driver
from ansible_collections.mad.engine.plugins.module_utils.k8s import k8s_launch, k8s_names, k8s_patch
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_options import Options
from ansible_collections.mad.engine.plugins.module_utils.k8s.k8s_pod import CONTAINER, FILES, Pod, gpu_count, image_of
from ansible_collections.mad.engine.plugins.module_utils.results.status import AGAIN, NEVER, is_resumable

from . import k8s_files

_HERE = os.path.dirname(os.path.abspath(__file__))
TEMPLATES = os.path.join(os.path.dirname(os.path.dirname(_HERE)), "roles", "k8s", "templates")
COLLECT_SECONDS = 20  # of the grace period: for what the model left behind
MARGIN_SECONDS = 600  # a Job's deadline is a backstop: the pod itself ends its model in time
JOB_LABEL = "batch.kubernetes.io/job-name"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
SUCCESS_POLICY_SINCE = (1, 31)

Run = t.Mapping[str, t.Any]
Settings = t.Mapping[str, t.Any]
Object = dict[str, t.Any]
# Keys of `settings`; each may be absent.
SETTINGS = ("files", "secrets", "registry_auth", "version")


# libyaml's, where PyYAML has it: ten times as fast, and a campaign renders a thousand of these.
_SafeDumper: t.Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_SafeLoader: t.Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Dumper(_SafeDumper):  # type: ignore[misc]
    """Texts of several lines as blocks, so that people can read the kept file."""

    def ignore_aliases(self, data: t.Any) -> bool:
        return True


def _text(dumper: t.Any, value: str) -> yaml.Node:
    node: yaml.Node = dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)
    return node


_Dumper.add_representer(str, _text)


class _Place(t.NamedTuple):
    """Where a value goes in what a template makes."""

    number: int


class _Loader(_SafeLoader):  # type: ignore[misc]
    """Knows the places that `dump` leaves."""


_Loader.add_constructor("!value", lambda loader, node: _Place(int(loader.construct_scalar(node))))


@jinja2.pass_context
def dump(context: jinja2.runtime.Context, value: t.Any) -> str:
    """The filter through which every value of a template goes: it leaves a place, and the value itself never becomes text."""
    places: list[t.Any] = context["places"]
    places.append(value)
    return "!value %d" % (len(places) - 1)


@functools.lru_cache(maxsize=256)
def _shape(text: str) -> t.Any:
    """What a template made, with places. Runs that are alike differ in their values only, and to parse one of them is enough."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506  a safe loader


def _filled(shape: t.Any, places: t.Sequence[t.Any]) -> t.Any:
    """A shape's copy with its values, in JSON's own types."""
    if isinstance(shape, _Place):
        return scalars.plain(places[shape.number], "a value of an object")
    if isinstance(shape, dict):
        return {name: _filled(item, places) for name, item in shape.items()}
    return [_filled(item, places) for item in shape] if isinstance(shape, list) else shape


@functools.lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    """Jinja as the templates expect it: a value that is absent is an error."""
    made = jinja2.Environment(  # noqa: S701  YAML and shell text; every value goes through dump or quote
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    made.filters.update(quote=quoting.quote, dump=dump)
    return made


def render(run: Run, options: Options, settings: Settings, with_text: bool = True) -> dict[str, t.Any]:
    """{"job", "owned", "standing", "text"} of one attempt of a resolved run.

    `settings`: `files` (bytes of k8s_files.pack), `secrets` ({name: value} of the run's secret_env), `registry_auth` (the registry's part of a
    Docker configuration), `version` ((1, 36) of the cluster). `owned` and `standing` are in the order in which they are made; who makes them
    adds the Job's uid to `owned` (`own`). `text` is all of it without Secrets, where somebody wants it.
    """
    rendering = _Rendering(run, options, settings)
    job, owned, standing = rendering.job(), rendering.owned(), rendering.standing()
    plain = [item for item in owned if item["kind"] != "Secret"]
    return {"job": job, "owned": owned, "standing": standing, "text": text_of([*standing, job, *plain]) if with_text else ""}


def render_server(run: Run, options: Options, settings: Settings, replicas: int = 1) -> dict[str, t.Any]:
    """{"deployment", "owned", "standing", "text"}: the run's command as a long-lived server, reached through a Service of the same name."""
    rendering = _Rendering(run, options, settings)
    deployment, owned, standing = rendering.deployment(replicas), rendering.owned(server=True), rendering.standing()
    plain = [item for item in owned if item["kind"] != "Secret"]
    return {"deployment": deployment, "owned": owned, "standing": standing, "text": text_of([*standing, deployment, *plain])}


def own(item: t.Mapping[str, t.Any], owner: t.Mapping[str, t.Any]) -> Object:
    """An object that is removed with its owner (the Job as the API server returned it)."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": False,
    }
    return {**item, "metadata": {**item["metadata"], "ownerReferences": [reference]}}


def text_of(items: t.Iterable[t.Mapping[str, t.Any]]) -> str:
    """Objects as the documents of one YAML text."""
    dumped = (yaml.dump(item, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=140) for item in items)
    return "---\n" + "---\n".join(re.sub(r"(?<=\n)\.\.\.\n\Z", "", text) for text in dumped)


class _Rendering:
    """One run on its way into the templates."""

    def __init__(self, run: Run, options: Options, settings: Settings) -> None:
        unknown = sorted(set(settings) - set(SETTINGS))
        if unknown:
            raise InvalidInput("settings: unknown key %r; known are %s" % (unknown[0], ", ".join(SETTINGS)))
        k8s_launch.check(run)
        self.run, self.options, self.settings = run, options, settings
        self.pod = Pod(run, options)
        self.jinja = environment()
        self.attempt = int(run.get("attempt") or 1)
        self.name = k8s_names.job_name(str(run["campaign"]), str(run["id"]), self.attempt, str(run["model"]))
        self.nodes = k8s_launch.nodes_of(run)
        self.labels = {**options.labels, **{name: value for name, value in k8s_names.labels(run).items() if value}}
        self.annotations = {**options.annotations, "mad.engine/model": str(run["model"]), "mad.engine/campaign": str(run["campaign"])}
        self.secrets = {**self.pod.secret_words, **{str(name): str(value) for name, value in (settings.get("secrets") or {}).items()}}
        if self.secrets and options.secrets_strategy != "from_local_credentials":
            self.secrets = {}  # the Secret that exists brings them, or none does: k8s.secrets.strategy
        self.config_maps = self._config_maps()

    # -- objects -------------------------------------------------------------------------------------------------------------------

    def job(self) -> Object:
        """The Job, patched as the context asks."""
        resumable = is_resumable(self.run)
        queue = {QUEUE_LABEL: self.options.queue_name} if self.options.queue_name else {}
        values = {
            **self._pod_values("Never", resumable),
            "job_labels": {**self.labels, **queue},
            "nodes": self.nodes,
            "backoff_limit": self.options.backoff_limit if resumable else 0,
            "deadline": self._deadline(),
            "failure_rules": _resumable_rules() if resumable else _rules(),
            "success_policy": self._first_ends_all() and tuple(self.settings.get("version") or ()) >= SUCCESS_POLICY_SINCE,
        }
        job = self._load("job.yaml.j2", values)
        return k8s_patch.apply(job, self.options.patch, self.labels, CONTAINER) if self.options.patch else job

    def deployment(self, replicas: int) -> Object:
        """The Deployment of a server."""
        if self.nodes > 1:
            raise InvalidInput("model %s: a Deployment is one pod per replica; distributed.nnodes is %d" % (self.run["model"], self.nodes))
        values = {**self._pod_values("Always", False), "replicas": replicas, "match_labels": self._match()}
        return self._load("deployment.yaml.j2", values)

    def owned(self, server: bool = False) -> list[Object]:
        """What is removed with the Job: Secrets, ConfigMaps, the Service."""
        found = [self._secret(name, kind, data) for name, kind, data in self._secrets()]
        for number, files in enumerate(self.config_maps):
            found.append(self._config_map(self._config_map_name(number), files))
        if server:
            found.append(self._service(False, self._match()))
        elif self.nodes > 1:
            found.append(self._service(True, {JOB_LABEL: self.name}))
        return found

    def standing(self) -> list[Object]:
        """Claims that were asked for with create: true. Nobody owns them."""
        labels = {k8s_names.MANAGED: k8s_names.MANAGER, **self.options.labels}
        found = []
        for claim in (self.options.data_pvc, self.options.results_pvc):
            if claim and claim.create:
                values = {"size": claim.size, "storage_class": claim.storage_class, "access_mode": claim.access_mode}
                found.append(
                    self._load(
                        "pvc.yaml.j2", {**values, "name": claim.claim_name, "labels": labels, "annotations": dict(self.options.annotations)}
                    )
                )
        return found

    # -- values --------------------------------------------------------------------------------------------------------------------

    def _load(self, template: str, values: t.Mapping[str, t.Any]) -> Object:
        known = {"name": self.name, "namespace": self.options.namespace, "labels": self.labels, "annotations": self.annotations}
        places: list[t.Any] = []
        text = self.jinja.get_template(template).render(**{**known, **values, "places": places})
        filled: Object = _filled(_shape(text), places)
        return filled

    def _pod_values(self, restart_policy: str, resumable: bool) -> dict[str, t.Any]:
        secret = self._secret_name() if self.secrets else ""
        fields = self.pod.container_fields()
        if resumable and self.options.restart_in_place:
            exits = {"operator": "In", "values": [69, 70]}
            fields["restartPolicyRules"] = [{"action": "Restart", "exitCodes": exits}]
            fields["restartPolicy"] = "Never"
        return {
            "restart_policy": restart_policy,
            "automount_token": bool(self.options.service_account),
            "grace": self.options.grace_seconds,
            "pod_fields": self.pod.fields(self.name, self._pull_secrets()),
            "container": CONTAINER,
            "container_fields": fields,
            "image": image_of(self.run),
            "pull_policy": self.options.image_pull_policy,
            "command": ["bash", FILES + "/pod.sh"],
            "env": self.pod.env(),
            "resources": self.pod.resources(),
            "mounts": self.pod.mounts(secret),
            "volumes": self.pod.volumes([self._config_map_name(number) for number in range(len(self.config_maps))], secret),
        }

    def _deadline(self) -> int:
        """Seconds after which the cluster ends what the pod did not end itself; 0 for none."""
        timeout = int(self.run.get("timeout") or 0)
        peers = self.options.peers_timeout if self.nodes > 1 else 0
        return timeout + self.options.pending_timeout + peers + self.options.grace_seconds + MARGIN_SECONDS if timeout else 0

    def _match(self) -> dict[str, str]:
        return {name: self.labels[name] for name in ("app.kubernetes.io/instance", k8s_names.RUN)}

    def _first_ends_all(self) -> bool:
        return k8s_launch.ends_with_first(self.run, self.options.end_with_first)

    # -- files and secrets ---------------------------------------------------------------------------------------------------------

    def _config_map_name(self, number: int) -> str:
        return self.name + "-files" + ("-%d" % number if number else "")

    def _secret_name(self) -> str:
        return self.name + "-env"

    def _config_maps(self) -> list[dict[str, bytes]]:
        """What the pod reads, over as many ConfigMaps as it takes."""
        own_run = dict(self.run, runtime="kubernetes", command=dict(self.run["command"], argv=k8s_launch.command(self.run)))
        place = driver.Place(engine.WORKSPACE, engine.CONTROL, share=False, keep_alive=False)
        plain = k8s_launch.plain_environment(self.run)
        if self.options.network_interface and self.nodes > 1:
            for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
                plain.setdefault(name, self.options.network_interface)
        engine.check_environment({**plain, **self.secrets})
        texts = {"pod.sh": self._script(), "driver.sh": driver.render(own_run, self.attempt, place), "env.sh": quoting.quote_env(plain)}
        files = {name: text.encode("utf-8", "surrogateescape") for name, text in texts.items()}
        return k8s_files.spread({**files, **k8s_files.pieces(self.settings.get("files") or b"")})

    def _config_map(self, name: str, files: t.Mapping[str, bytes]) -> Object:
        data: dict[str, str] = {}
        binary: dict[str, str] = {}
        for key, content in files.items():
            try:
                if key.startswith("tree."):
                    binary[key] = base64.b64encode(content).decode()
                else:
                    data[key] = content.decode("utf-8")
            except UnicodeDecodeError:
                binary[key] = base64.b64encode(content).decode()
        return self._load("configmap.yaml.j2", {"name": name, "data": data, "binary": binary})

    def _pull_secrets(self) -> list[str]:
        made = [self.name + "-pull"] if self._registry_auth() else []
        return list(dict.fromkeys((*self.options.image_pull_secrets, *made)))

    def _registry_auth(self) -> str:
        auth = self.settings.get("registry_auth")
        if not auth or self.options.secrets_strategy != "from_local_credentials":
            return ""
        return auth if isinstance(auth, str) else json.dumps(auth)

    def _secrets(self) -> t.Iterator[tuple[str, str, dict[str, str]]]:
        if self._registry_auth():
            yield self.name + "-pull", "kubernetes.io/dockerconfigjson", {".dockerconfigjson": self._registry_auth()}
        if self.secrets:
            yield self._secret_name(), "Opaque", {"env.sh": quoting.quote_env(self.secrets)}

    def _secret(self, name: str, kind: str, data: t.Mapping[str, str]) -> Object:
        coded = {key: base64.b64encode(value.encode("utf-8", "surrogateescape")).decode() for key, value in data.items()}
        return self._load("secret.yaml.j2", {"name": name, "type": kind, "data": coded})

    def _service(self, headless: bool, match: t.Mapping[str, str]) -> Object:
        port = int((self.run.get("launcher") or {}).get("port") or 0)
        values = {"headless": headless, "match_labels": dict(match), "port": port, "port_name": "master" if headless else "http"}
        return self._load("service.yaml.j2", values)

    # -- the pod's script ------------------------------------------------------------------------------------------------------------

    def _script(self) -> str:
        run, options, launch = self.run, self.options, self.run["launcher"]
        results = os.path.basename(driver.relative(str(run.get("multiple_results") or ""), "multiple_results"))
        lines = k8s_launch.lines(run)
        vendor = str((run.get("gpus") or {}).get("vendor") or "") if gpu_count(run) else ""
        claim = options.results_pvc
        values = {
            "title": "run %s, attempt %d, model %r" % (run["id"], self.attempt, str(run["model"])),
            "identity": "run=%s attempt=%d" % (run["id"], self.attempt),
            "nodes": self.nodes,
            "timeout": int(run.get("timeout") or 0),
            "patience": max(5, options.grace_seconds - COLLECT_SECONDS),
            "room": options.artifacts_limit,
            "results": results,
            "results_folder": "/".join((claim.mount_path, str(run["campaign"]), str(run["id"]), "attempt-%d" % self.attempt))
            if claim
            else "",
            "copied": list(self._copied()),
            "job": self.name,
            "domain": ".".join((self.name, options.namespace, "svc", options.cluster_domain)),
            "peers_timeout": options.peers_timeout,
            "port": int(launch.get("port") or 0),
            "slots": int(launch["nproc_per_node"]),
            "hostfile": k8s_launch.HOSTFILE,
            "launch": lines,
            "names": [line.split("=", 1)[0][len("export ") :] for line in lines],
            "vendor": vendor,
            "detect_architecture": bool(vendor) and not k8s_launch.plain_environment(run).get("MAD_SYSTEM_GPU_ARCHITECTURE"),
            "ends_with_first": self._first_ends_all(),
        }
        return self.jinja.get_template("pod.sh.j2").render(**values)

    def _copied(self) -> t.Iterator[dict[str, str]]:
        """Paths of the repository that the pod copies out of a claim or the image."""
        if self.options.scripts_from == "configmap":
            return
        root = "/.mad-repository" if self.options.scripts_from == "pvc" else ""
        for path in sorted({driver.relative(str(path), "stage") for path in self.run.get("stage") or []}):
            source = "/".join(part for part in ((root + self.options.scripts_path).rstrip("/"), path) if part)
            problem = "%s could not be copied; k8s.scripts_from is %s" % (source, self.options.scripts_from)
            yield {"source": source, "folder": os.path.dirname(path) or ".", "problem": problem}


def _rules() -> list[Object]:
    """Every end but 0 ends the Job, and so does the loss of its pod: nothing is run twice in silence."""
    return [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
    ]


def _resumable_rules() -> list[Object]:
    """The other contract: what cannot get better ends the Job, a disruption and 75 are replaced without being counted."""
    return [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [64, 65, NEVER, 124]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [AGAIN]}},
    ]
