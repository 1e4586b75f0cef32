# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run and its options as the fields of a pod: resources, rights, volumes, places. Plain data for the templates."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

from ..base.errors import ImageError, InvalidInput
from ..base.merge import merge
from ..base.secret_names import split_secrets
from ..containers import engine
from . import k8s_docker, k8s_volumes
from .k8s_launch import nodes_of
from .k8s_options import DEFAULT_SHM, Options

CONTAINER = "model"
FILES, SECRETS = "/.mad-files", "/.mad-secrets"
DEFAULT_USER = 1000  # where the restricted level asks for a user and nobody named one

Run = Mapping[str, Any]


def image_of(run: Run) -> str:
    """The reference that nodes pull: what was pushed, or what was given."""
    image = run.get("image") or {}
    name = str(image.get("registry_image") or (image.get("name") if image.get("given") else "") or "")
    if not name:
        pushed = str(image.get("push_error") or "")
        raise ImageError(
            "model %s: the image %s is in no registry, and a cluster pulls from nowhere else%s; set mad_registry, or MAD_CONTAINER_IMAGE"
            % (run.get("model"), image.get("name") or "(none)", " (%s)" % pushed if pushed else "")
        )
    return name


def gpu_count(run: Run) -> int:
    """GPUs of each pod."""
    count = (run.get("gpus") or {}).get("count") or 0
    if not isinstance(count, int) or count < 0:
        raise InvalidInput(
            "model %s: n_gpus %r: a pod asks for a number of GPUs; which number is all of them is not known before it runs"
            % (run.get("model"), count),
            "placement",
        )
    return count


def _check(run: Run, options: Options) -> None:
    """What a run says that a pod cannot do."""
    if run.get("cpus"):
        raise InvalidInput("docker_cpus %s names CPUs of one machine; set k8s.cpu and k8s.cpu_limit" % run["cpus"], "placement")
    if options.restricted and (run.get("mounts") or any((run.get("privileges") or {}).values())):
        raise InvalidInput("k8s.restricted: docker_mounts and docker_privileges are forbidden at the Pod Security level restricted")


class Pod:
    """The fields of one run's pods."""

    def __init__(self, run: Run, options: Options) -> None:
        _check(run, options)
        self.run, self.options = run, options
        self.words = k8s_docker.translate(
            [str(word) for word in run.get("options") or []], str(run.get("model")), options.ignore_docker_options
        )
        self.env_words, self.secret_words = split_secrets(self.words.env)
        asked = run.get("privileges") or {}
        self.host_ipc = bool((options.host_ipc or asked.get("ipc_host") or self.words.host_ipc) and not options.restricted)
        self.host_network = options.host_network or (self.words.host_network and not options.restricted)

    def resources(self) -> Dict[str, Dict[str, str]]:
        """Requests and limits; GPUs and other devices are the same in both."""
        options, devices = self.options, dict(self.options.resources)
        count = gpu_count(self.run)
        if count and options.gpu_resource:
            devices[options.gpu_resource] = "%d" % count
        pairs = [
            ("cpu", options.cpu, options.cpu_limit),
            ("memory", options.memory, options.memory_limit),
            ("ephemeral-storage", options.ephemeral_storage, options.ephemeral_storage_limit),
        ]
        requests = {name: request for name, request, dummy in pairs if request}
        limits = {name: limit for name, dummy, limit in pairs if limit}
        return {key: value for key, value in (("requests", dict(requests, **devices)), ("limits", dict(limits, **devices))) if value}

    # -- rights --------------------------------------------------------------------------------------------------------------------

    def security_context(self) -> Dict[str, Any]:
        """Of the container: what the restricted level asks for, or what card and context ask for."""
        options, asked = self.options, self.run.get("privileges") or {}
        context: Dict[str, Any] = {}
        if options.restricted:
            context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        else:
            capabilities = [*self.words.capabilities, *(["SYS_ADMIN"] if asked.get("sys_admin") else [])]
            capabilities += ["SYS_PTRACE"] if options.privileged_profiling else []
            if capabilities:
                context["capabilities"] = {"add": sorted(set(capabilities))}
            if self.words.privileged:
                context["privileged"] = True
            elif self.words.seccomp_unconfined or asked.get("seccomp_unconfined") or options.privileged_profiling:
                context["seccompProfile"] = {"type": "Unconfined"}
        return merge(context, options.security_context)

    def pod_security_context(self) -> Dict[str, Any]:
        """Of the pod."""
        options = self.options
        user, dummy, group = ("" if options.restricted else self.words.user).partition(":")
        context: Dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
        if options.run_as_user is not None or options.restricted:
            context["runAsUser"] = DEFAULT_USER if options.run_as_user is None else options.run_as_user
        elif user:
            context["runAsUser"] = int(user)
        if options.run_as_group is not None or group:
            context["runAsGroup"] = int(group) if options.run_as_group is None else options.run_as_group
        if options.restricted:
            context.update(runAsNonRoot=True, fsGroup=context.get("runAsGroup", context["runAsUser"]))
        if self.words.groups:
            context["supplementalGroups"] = list(self.words.groups)
        return merge(context, options.pod_security_context)

    # -- files ---------------------------------------------------------------------------------------------------------------------

    def entries(self) -> List[Dict[str, Any]]:
        """Volumes of people: theirs, docker_mounts, claims."""
        options = self.options
        found: List[Dict[str, Any]] = [dict(entry) for entry in options.volumes]
        found += k8s_volumes.host_paths(self.run.get("mounts") or [])
        found += [
            k8s_volumes.of_claim(claim, name) for claim, name in ((options.data_pvc, "data"), (options.results_pvc, "results")) if claim
        ]
        if options.scripts_from == "pvc":
            scripts = {"claim_name": options.scripts_claim, "mount_path": "/.mad-repository", "sub_path": "", "read_only": True}
            found.append(dict(scripts, name=k8s_volumes.OURS + "scripts", type="pvc"))
        paths = [entry["mount_path"] for entry in found]
        double = sorted({path for path in paths if paths.count(path) > 1})
        if double:
            raise InvalidInput("two volumes are mounted at %s (volumes, data_pvc, results_pvc, docker_mounts)" % double[0])
        return found

    def _shm(self) -> str:
        if self.host_ipc and self.options.shm_size in ("", DEFAULT_SHM):
            return ""
        return self.words.shm_size if self.words.shm_size and self.options.shm_size in ("", DEFAULT_SHM) else self.options.shm_size

    def volumes(self, config_maps: Sequence[str], secret: str) -> List[Dict[str, Any]]:
        """All volumes of the pod: ours first."""
        found: List[Dict[str, Any]] = [
            {"name": "mad-work", "emptyDir": {}},
            {"name": "mad-control", "emptyDir": {}},
            {"name": "mad-files", "projected": {"defaultMode": 0o555, "sources": [{"configMap": {"name": name}} for name in config_maps]}},
        ]
        if secret:
            found.append({"name": "mad-secrets", "secret": {"secretName": secret, "defaultMode": 0o444}})
        if self._shm():
            found.append({"name": "mad-shm", "emptyDir": {"medium": "Memory", "sizeLimit": self._shm()}})
        return found + [k8s_volumes.source(entry) for entry in self.entries()]

    def mounts(self, secret: str) -> List[Dict[str, Any]]:
        """Where the container finds them."""
        found: List[Dict[str, Any]] = [
            {"name": "mad-work", "mountPath": engine.WORKSPACE},
            {"name": "mad-control", "mountPath": engine.CONTROL},
            {"name": "mad-files", "mountPath": FILES, "readOnly": True},
        ]
        if secret:
            found.append({"name": "mad-secrets", "mountPath": SECRETS, "readOnly": True})
        if self._shm():
            found.append({"name": "mad-shm", "mountPath": "/dev/shm"})
        return found + [k8s_volumes.mount(entry) for entry in self.entries()]

    # -- the pod -------------------------------------------------------------------------------------------------------------------

    def fields(self, name: str, pull_secrets: Sequence[str]) -> Dict[str, Any]:
        """Fields of the pod beside its container and volumes; only those that say something."""
        options = self.options
        values: Dict[str, Any] = {
            "subdomain": name if nodes_of(self.run) > 1 else "",
            "nodeSelector": dict(options.node_selector),
            "tolerations": list(options.tolerations),
            "affinity": dict(options.affinity),
            "priorityClassName": options.priority_class,
            "runtimeClassName": options.runtime_class,
            "schedulerName": options.scheduler,
            "serviceAccountName": options.service_account,
            "securityContext": self.pod_security_context(),
            "hostNetwork": self.host_network,
            "hostIPC": self.host_ipc,
            "dnsPolicy": "ClusterFirstWithHostNet" if self.host_network else "",
            "imagePullSecrets": [{"name": secret} for secret in pull_secrets],
        }
        return {field: value for field, value in values.items() if value}

    def container_fields(self) -> Dict[str, Any]:
        """Fields of the container that are not always there."""
        values: Dict[str, Any] = {"securityContext": self.security_context()}
        if self.options.runtime_secret:
            values["envFrom"] = [{"secretRef": {"name": self.options.runtime_secret}}]
        return {field: value for field, value in values.items() if value}

    def env(self) -> List[Dict[str, Any]]:
        """What the kubelet knows of the pod; the run's own variables come by env.sh."""
        fields = {
            "MAD_NODE_NAME": "spec.nodeName",
            "MAD_POD_IP": "status.podIP",
            "MAD_POD_NAME": "metadata.name",
            "MAD_POD_NAMESPACE": "metadata.namespace",
        }
        known = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": fields[name]}}} for name in sorted(fields)]
        return known + [{"name": name, "value": value} for name, value in sorted(self.env_words.items()) if name not in fields]
