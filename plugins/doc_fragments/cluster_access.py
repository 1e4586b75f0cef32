# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options by which the modules for Kubernetes reach a cluster."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of k8s_job and k8s_node."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of a kubeconfig file on the host.
      - Empty means C(KUBECONFIG), then C(~/.kube/config), then the service account of the pod that this runs in.
    type: str
    default: ""
  context:
    description: Context of the kubeconfig file.
    type: str
    default: ""
"""
