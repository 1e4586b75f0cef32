# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `k8s` of a context: every option with its type. No site's names as defaults; what has no effect is refused by name."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ..base import scalars
from ..base.errors import InvalidInput
from . import k8s_checks as checks
from . import k8s_volumes
from .k8s_volumes import Claim

STRATEGIES = ("from_local_credentials", "existing", "omit")
SCRIPTS = ("configmap", "pvc", "image")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
RESOURCES = {"AMD": "amd.com/gpu", "NVIDIA": "nvidia.com/gpu", "INTEL": "gpu.intel.com/i915"}
NO_GPU = "none"  # the word for "ask for no GPU resource"
DEFAULT_SHM = "16Gi"

Check = Callable[[Any, str], Any]


class Options(NamedTuple):
    """The section, checked. Empty text, zero, None and () mean that the cluster's own default holds."""

    # which cluster
    namespace: str = "default"
    kubeconfig: str = ""
    context: str = ""
    in_cluster: bool = False
    cluster_domain: str = "cluster.local"
    # image and secrets
    image_pull_policy: str = "Always"
    secrets_strategy: str = "from_local_credentials"
    image_pull_secrets: Tuple[str, ...] = ()
    runtime_secret: str = ""
    # resources
    gpu_resource: str = ""  # "" none
    node_gpus: int = 0  # of one node: what "all GPUs" (n_gpus -1) means; 0 nobody said it
    cpu: str = ""
    cpu_limit: str = ""
    memory: str = ""
    memory_limit: str = ""
    ephemeral_storage: str = ""
    ephemeral_storage_limit: str = ""
    resources: Mapping[str, str] = {}
    shm_size: str = DEFAULT_SHM  # "" none: the host's own IPC
    # placement
    node_selector: Mapping[str, str] = {}
    tolerations: Tuple[Mapping[str, Any], ...] = ()
    affinity: Mapping[str, Any] = {}
    priority_class: str = ""
    runtime_class: str = ""
    scheduler: str = ""
    queue_name: str = ""
    # rights
    service_account: str = ""
    restricted: bool = False
    run_as_user: Optional[int] = None
    run_as_group: Optional[int] = None
    security_context: Mapping[str, Any] = {}
    pod_security_context: Mapping[str, Any] = {}
    privileged_profiling: bool = False
    host_network: bool = False
    host_ipc: bool = False
    # files
    volumes: Tuple[Mapping[str, Any], ...] = ()
    data_pvc: Optional[Claim] = None
    results_pvc: Optional[Claim] = None
    scripts_from: str = "configmap"
    scripts_claim: str = ""
    scripts_path: str = ""
    artifacts_limit: int = 8 << 20
    output_dir: str = ""
    # time
    pending_timeout: int = 1800
    peers_timeout: int = 900
    grace_seconds: int = 60
    ttl_seconds: Optional[int] = None  # set on the Job only after collection
    # behaviour
    backoff_limit: int = 6  # of resumable cards; every other Job has 0
    restart_in_place: bool = False
    end_with_first: Optional[bool] = None  # None: as the launcher needs
    network_interface: str = ""
    ignore_docker_options: bool = False
    max_jobs: int = 0
    cleanup_on_failure: bool = True
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    patch: Mapping[str, Any] = {}
    warnings: Tuple[str, ...] = ()


def _flag(value: Any, key: str) -> bool:
    return scalars.to_bool(value, key)


def _user(value: Any, key: str) -> int:
    return scalars.to_int(value, key, 0, "a numeric id")


def _policy(value: Any, key: str) -> str:
    return checks.choice(value, key, PULL_POLICIES)


def _scripts(value: Any, key: str) -> str:
    return checks.choice(value, key, SCRIPTS)


def _domain(value: Any, key: str) -> str:
    return checks.object_name(str(value).strip(".") if isinstance(value, str) else value, key)


def _resource(value: Any, key: str) -> str:
    text = checks.line(value, key)
    return NO_GPU if text.lower() == NO_GPU else checks.qualified(text, key)


_CLAIM = Claim("", "/data", False, "100Gi", "", "ReadWriteMany")


def _data(value: Any, key: str) -> Claim:
    return k8s_volumes.claim(value, key, _CLAIM)


def _results(value: Any, key: str) -> Claim:
    return k8s_volumes.claim(value, key, _CLAIM._replace(mount_path="/results", size="10Gi"))


_CHECKS: Dict[str, Check] = {
    "namespace": checks.dns_label,
    "in_cluster": _flag,
    "cluster_domain": _domain,
    "image_pull_policy": _policy,
    "image_pull_secrets": checks.object_names,
    "gpu_resource_name": _resource,
    "node_gpus": checks.count,
    "cpu": checks.quantity,
    "cpu_limit": checks.quantity,
    "memory": checks.quantity,
    "memory_limit": checks.quantity,
    "ephemeral_storage": checks.quantity,
    "ephemeral_storage_limit": checks.quantity,
    "resources": checks.resources,
    "shm_size": checks.quantity,
    "node_selector": checks.selector,
    "tolerations": checks.raw_list,
    "affinity": checks.raw_dict,
    "priority_class": checks.object_name,
    "runtime_class": checks.object_name,
    "queue_name": checks.object_name,
    "service_account": checks.object_name,
    "restricted": _flag,
    "run_as_user": _user,
    "run_as_group": _user,
    "security_context": checks.raw_dict,
    "pod_security_context": checks.raw_dict,
    "privileged_profiling": _flag,
    "host_network": _flag,
    "host_ipc": _flag,
    "volumes": k8s_volumes.parse,
    "data_pvc": _data,
    "results_pvc": _results,
    "scripts_from": _scripts,
    "scripts_claim": checks.object_name,
    "scripts_path": checks.path,
    "artifacts_limit": checks.byte_count,
    "pending_timeout": checks.seconds,
    "peers_timeout": checks.seconds,
    "grace_seconds": checks.seconds,
    "ttl_seconds": checks.count,
    "backoff_limit": checks.count,
    "restart_in_place": _flag,
    "end_with_first": _flag,
    "ignore_docker_options": _flag,
    "max_jobs": checks.count,
    "labels": checks.label_dict,
    "annotations": checks.annotation_dict,
    "patch": checks.raw_dict,
}
_SPELLINGS = {
    "ttl_seconds_after_finished": "ttl_seconds",
    "termination_grace_period_seconds": "grace_seconds",
    "allow_privileged_profiling": "privileged_profiling",
    "priority_class_name": "priority_class",
    "runtime_class_name": "runtime_class",
    "scheduler_name": "scheduler",
    "service_account_name": "service_account",
    "kueue_queue_name": "queue_name",
    "local_queue": "queue_name",
    "image_pull_secret_names": "image_pull_secrets",
    "gpu_resource": "gpu_resource_name",
    "extra_resources": "resources",
    "extra_labels": "labels",
    "extra_annotations": "annotations",
    "container_security_context": "security_context",
    "kube_context": "context",
    "nodeSelector": "node_selector",
    "serviceAccountName": "service_account",
    "hostNetwork": "host_network",
    "hostIPC": "host_ipc",
}
_CLASSES = ("storage_class", "nfs_storage_class", "data_storage_class")
_RESULTS_CLAIM = (
    "single_node_results_storage_class",
    "multi_node_results_storage_class",
    "local_path_storage_class",
    "results_storage_size",
)
# Keys that stand elsewhere by the time a context is normalised, or that this target cannot give an effect.
_ELSEWHERE = {
    **scalars.AT_THE_TOP,
    "gpu_count": "write n_gpus at the top of the context",
    "env": "write env_vars at the top of the context",
    "recreate_shared_data_pvc": "data is never removed by us; delete the claim yourself",
    "data_storage_size": "write size below data_pvc, with create: true",
    **dict.fromkeys(_RESULTS_CLAIM, "results come home without a claim; one of your own is results_pvc, with create: true, size and storage_class"),
}
_UNSET_ONLY = ("recreate_shared_data_pvc", "debug")
_HANDLED = ("secrets", *_CLASSES)
KEYS = tuple(sorted({*_CHECKS, *_HANDLED, "kubeconfig", "context", "scheduler", "output_dir", "network_interface"}))


def parse(context: Mapping[str, Any], what: str = "k8s") -> Options:
    """The options of a normalised context (presets below it); InvalidInput names the key, what was expected, what a misspelt key may mean."""
    section = context.get("k8s") or {}
    if not isinstance(section, Mapping):
        raise scalars.wrong(what, "a dict", section)
    found = _values(section, what)
    found["gpu_resource"] = _gpu_resource(found.pop("gpu_resource_name", ""), str(context.get("gpu_vendor") or ""))
    found.update(_secrets(section.get("secrets"), what + ".secrets", found.get("image_pull_secrets", ())))
    _storage_classes(found, section, what)
    if context.get("debug") and not found.get("output_dir"):
        found["output_dir"] = "./k8s_manifests"
    found.setdefault("cleanup_on_failure", scalars.to_bool(context.get("cleanup_on_failure", True), "cleanup_on_failure"))
    return _consistent(Options()._replace(**found), found, what)


def _values(section: Mapping[str, Any], what: str) -> Dict[str, Any]:
    """Every option that is set, by its one name."""
    found: Dict[str, Any] = {}
    for given, value in section.items():
        key, name = "%s.%s" % (what, given), _SPELLINGS.get(given, given)
        if given in _ELSEWHERE and not (given in _UNSET_ONLY and not value):
            raise InvalidInput("%s is not an option of this release: %s" % (key, _ELSEWHERE[given]))
        if given in _ELSEWHERE or given in _HANDLED or scalars.is_unset(value):
            continue
        if name not in KEYS:
            raise InvalidInput("%s is not known%s" % (key, checks.hint(given, [*KEYS, *_SPELLINGS])))
        check: Check = _CHECKS.get(name, checks.line)
        checked = check(value, key)
        if name in found and found[name] != checked:
            raise InvalidInput("%s says %s, and another spelling of it says %s; keep one" % (key, checked, found[name]))
        found[name] = checked
    return found


def _gpu_resource(given: str, vendor: str) -> str:
    """The resource that stands for a GPU: a given name, none, or what the vendor's device plugin calls it."""
    if given:
        return "" if given == NO_GPU else given
    return RESOURCES.get(vendor.upper(), "")


def _secrets(value: Any, key: str, pull: Tuple[str, ...]) -> Dict[str, Any]:
    """`secrets: {strategy, image_pull_secret_names, runtime_secret_name}`."""
    if scalars.is_unset(value):
        return {}
    if not isinstance(value, Mapping):
        raise scalars.wrong(key, "a dict with strategy, image_pull_secret_names, runtime_secret_name", value)
    known = ("strategy", "image_pull_secret_names", "runtime_secret_name")
    for name in value:
        if name not in known:
            raise InvalidInput("%s.%s is not known%s" % (key, name, checks.hint(str(name), known)))
    strategy = checks.choice(value.get("strategy") or STRATEGIES[0], key + ".strategy", STRATEGIES)
    names = checks.object_names(value.get("image_pull_secret_names") or (), key + ".image_pull_secret_names")
    runtime = value.get("runtime_secret_name")
    return {
        "secrets_strategy": strategy,
        "image_pull_secrets": tuple(dict.fromkeys((*pull, *names))),
        "runtime_secret": "" if scalars.is_unset(runtime) else checks.object_name(runtime, key + ".runtime_secret_name"),
    }


def _storage_classes(found: Dict[str, Any], section: Mapping[str, Any], what: str) -> None:
    """madengine's three keys: the classes of claims that are created; without such a claim they have no effect and are refused."""
    classes = {name: checks.line(section[name], "%s.%s" % (what, name)) for name in _CLASSES if not scalars.is_unset(section.get(name))}
    for name, options in (("data_pvc", ("data_storage_class",)), ("results_pvc", ("storage_class", "nfs_storage_class"))):
        claim = found.get(name)
        for option in options:
            if option not in classes:
                continue
            if not claim or not claim.create:
                raise InvalidInput(
                    "%s.%s has an effect on %s.%s with create: true only; set that, or leave it out" % (what, option, what, name)
                )
            shared = claim.access_mode != "ReadWriteOnce"
            if not claim.storage_class and (
                option == "data_storage_class" or shared == (option == "nfs_storage_class") or len(classes) == 1
            ):
                found[name] = claim = claim._replace(storage_class=classes[option])


def _consistent(options: Options, given: Mapping[str, Any], what: str) -> Options:
    """What only several keys together say."""
    warnings: List[str] = []
    if options.in_cluster and (options.context or options.kubeconfig):
        raise InvalidInput(
            "%s.in_cluster is true, and %s.kubeconfig or %s.context names another way to the cluster; keep one" % (what, what, what)
        )
    if options.scripts_from == "pvc" and not options.scripts_claim:
        raise InvalidInput("%s.scripts_from is pvc: %s.scripts_claim must name the claim that holds the model repository" % (what, what))
    if options.scripts_from == "image" and not options.scripts_path:
        raise InvalidInput("%s.scripts_from is image: %s.scripts_path must say where the model repository lies in it" % (what, what))
    for name, needed in (("scripts_claim", ("pvc",)), ("scripts_path", ("pvc", "image"))):
        if getattr(options, name) and options.scripts_from not in needed:
            raise InvalidInput("%s.%s has no effect with scripts_from: %s" % (what, name, options.scripts_from))
    if options.restricted and options.host_ipc:
        warnings.append("%s.host_ipc is left out: the Pod Security level restricted forbids it" % what)
        options = options._replace(host_ipc=False)
    for name in ("host_network", "privileged_profiling"):
        if options.restricted and getattr(options, name):
            raise InvalidInput("%s.%s and %s.restricted exclude each other" % (what, name, what))
    if options.restricted and options.run_as_user == 0:
        raise InvalidInput("%s.run_as_user is 0, and %s.restricted forbids root" % (what, what))
    for name in ("cpu", "memory", "ephemeral_storage"):
        request, limit = getattr(options, name), getattr(options, name + "_limit")
        if request and limit and checks.amount(request) > checks.amount(limit):
            warnings.append("%s.%s_limit %s is below %s.%s; the limit is %s as well" % (what, name, limit, what, name, request))
            options = options._replace(**{name + "_limit": request})
    if "backoff_limit" in given:
        warnings.append("%s.backoff_limit is for cards with resumable: true; every other Job runs once (mad_retries makes new ones)" % what)
    if options.host_ipc and "shm_size" not in given:
        options = options._replace(shm_size="")
    if options.grace_seconds < 30:
        warnings.append("%s.grace_seconds: results may be lost when a pod is stopped in less than 30 s" % what)
    return options._replace(warnings=tuple(warnings))
