#!/usr/bin/python
# Copyright (c) 2026, mad.engine contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_build
short_description: Build the images that a campaign's plan wants of a build host
version_added: 0.1.0
author:
  - mad.engine contributors (@mad-engine)
description:
  - Builds every image of the campaign's C(plan.json) whose build host is this host, several side by side, and writes
    C(build_manifest.json).
  - The host gets the Dockerfiles and build contexts (after C(.dockerignore), without C(.git)) as one archive named by its content; an
    archive it has is not sent again.
  - An image whose content (Dockerfile, context, build arguments, base image, architecture) is unchanged is not built again. The
    content stands in the
    image's label C(mad.content).
  - A failed build or push never stops the others and does not fail the task; it stands in RV(failed_builds), RV(failed_pushes), the
    manifest's C(summary) and
    RV(exit_code). Only a host that cannot be asked fails the task; the manifest is written then too.
  - With a registry the images are pushed. Without one, images that other hosts need are saved once and fetched to C(images/) of the
    campaign folder.
  - Works with docker (BuildKit where it is there, else the classic builder) and podman. The host needs Python 3.8 or newer and the
    engine's command line.
  - Credentials of a model card's C(cred), environment variables C(MAD_SECRETS*) of the controller and build arguments with secret
    names reach the build as
    build secrets (C(RUN --mount=type=secret,id=NAME)). A Dockerfile that takes one of them as C(ARG) is an error.
options:
  campaign_dir:
    description: Folder of the campaign on the controller.
    type: path
    required: true
  state:
    description:
      - V(built) builds what the plan wants of this host.
      - V(manifest) only writes the manifest from what all build hosts have said so far, without a connection. A planned build of
        which nothing is known
        counts as failed.
    type: str
    default: built
    choices: [built, manifest]
  build_host:
    description: Inventory name of the build host whose builds are meant; empty means the play's host. Use it together with C(delegate_to).
    type: str
    default: ""
  work_dir:
    description: Work folder on the host, on a local disk. Empty means C(/var/tmp/mad-<uid>).
    type: str
    default: ""
  engine:
    description: Engine to build with; V(auto) takes docker, else podman, whichever answers.
    type: str
    default: auto
    choices: [auto, docker, podman]
  registry:
    description:
      - Push to this registry, C(host[:port][/path]) or V(docker.io). Empty means what the plan says.
      - An image is pushed as C(<registry>/<image>), or as C(<registry>/<repository>:<image>) when the registry's credential names a
        C(repository); for
        Docker Hub the registry's name is left out.
    type: str
    default: ""
  credential_file:
    description:
      - On the controller, a JSON file with one entry for each registry (V(dockerhub) for Docker Hub) that has V(username),
        V(password) and V(repository),
        and with other credentials. Empty means the one that the plan found (C(credential.json) of the model repository, if nobody named one).
      - Environment variables E(MAD_DOCKERHUB_USER), E(MAD_DOCKERHUB_PASSWORD) and E(MAD_DOCKERHUB_REPO) of the controller override
        its entry
        V(dockerhub).
    type: str
    default: ""
  secrets:
    description:
      - Values of build secrets by name. What is not here is taken from the model's credential, from C(docker_build_arg) of the context of
        the hosts that need the image, or from the controller's environment.
      - They travel in the module's arguments and stand in no command line, file, log or result.
    type: dict
    default: {}
  pull:
    description:
      - V(missing) pulls a base image only when the host has none of that name.
      - V(always) refreshes base images first, where their registry answers; where it does not, the local one is used and the build
        log says so.
    type: str
    default: missing
    choices: [missing, always]
  no_cache:
    description: Build everything again and without the engine's layer cache (madengine's C(--clean-docker-cache)).
    type: bool
    default: false
  allow_secret_build_args:
    description: Let Dockerfiles take secrets as C(ARG). Their values stay readable in the image's history for everybody who has the image.
    type: bool
    default: false
  parallel:
    description: How many images are built side by side.
    type: int
    default: 2
  timeout:
    description: Seconds for one build; 0 means no limit.
    type: int
    default: 0
  manifest_output:
    description: Also write the manifest to this path on the controller.
    type: str
    default: ""
  unreachable:
    description: With O(state=manifest), why a build host gave no result, by inventory name.
    type: dict
    default: {}
  job:
    description: What the controller's half hands to the host's half. Not for people.
    type: dict
  job_secrets:
    description: Secrets of O(job). Not for people.
    type: str
attributes:
  check_mode:
    support: full
    description: Says which images would be built; sends nothing, builds nothing, pulls nothing and writes nothing.
  diff_mode:
    support: none
    description: What it changes is not a text.
"""

EXAMPLES = r"""
- name: Build what this host has to build
  mad.engine.image_build:
    campaign_dir: /srv/results/20261122T101500Z
  register: mad_built

- name: Build, push to a registry with a login, and keep a copy of the manifest
  mad.engine.image_build:
    campaign_dir: /srv/results/20261122T101500Z
    registry: registry.example.com:5000
    credential_file: /srv/secrets/credential.json
    manifest_output: /srv/build_manifest.json
    secrets:
      HF_TOKEN: "{{ vault_hf_token }}"

- name: The manifest, whatever the build hosts did
  mad.engine.image_build:
    campaign_dir: /srv/results/20261122T101500Z
    state: manifest
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
manifest:
  description: Path of the manifest on the controller.
  type: str
  returned: success, not in check mode with state built
exit_code:
  description: What the manifest says about all build hosts so far, 2 when a build or a push failed, else 0.
  type: int
  returned: success, not in check mode
built:
  description: What became of each image of this host. V(SKIPPED) means that it was unchanged. In check mode V(SUCCESS) means that it
    would be built.
  type: list
  elements: dict
  returned: success, state built
  sample: [{image: ci-dummy_dummy.ubuntu.amd, model: dummy, status: SUCCESS, seconds: 12.3, reason: ""}]
unchanged:
  description: Names of the images that were not built again.
  type: list
  elements: str
  returned: success, state built
failed_images:
  description: Names of this host's images that could not be built.
  type: list
  elements: str
  returned: success, state built
pushed:
  description: Names of the images that the registry has now.
  type: list
  elements: str
  returned: success, state built
failed_pushes:
  description: Every image of the campaign that the registry did not take so far, with the first line of the error.
  type: list
  elements: dict
  returned: success, not in check mode
  sample: [{image: ci-dummy_dummy.ubuntu.amd, model: dummy, error: "the registry localhost:5000 refused the login as me"}]
failed_builds:
  description: Every failed build of the campaign so far, with the first line of the error; the manifest's summary has the whole.
  type: list
  elements: dict
  returned: success, not in check mode
  sample: [{image: ci-dummy_dummy.ubuntu.amd, model: dummy, error: "image ci-dummy_dummy.ubuntu.amd of model dummy was not built"}]
images:
  description: What is known of each image of this host.
  type: dict
  returned: success, state built
  sample: {ci-dummy_dummy.ubuntu.amd: {digest: "sha256:...", registry_image: "", registry_digest: "", status: SUCCESS}}
"""

import json
import signal

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.mad.engine.plugins.module_utils.base.errors import MadError
from ansible_collections.mad.engine.plugins.module_utils.building import build_host
from ansible_collections.mad.engine.plugins.module_utils.building.arguments import ARGUMENTS
from ansible_collections.mad.engine.plugins.module_utils.containers.build_log import Commands


def main() -> None:
    """The host's half: build what the job says."""
    of_action = {"job": {"type": "dict"}, "job_secrets": {"type": "str", "no_log": True}}
    module = AnsibleModule(argument_spec=dict(ARGUMENTS, **of_action), supports_check_mode=True)
    if not module.params["job"]:
        module.fail_json(msg="image_build works only together with its action plugin; call it as mad.engine.image_build")
    commands = Commands()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: commands.stop())
    try:
        job = build_host.Job(**module.params["job"])
        if module.check_mode:
            module.exit_json(changed=False, **build_host.predict(job))
        secrets = build_host.Secrets(**json.loads(module.params["job_secrets"] or "{}"))
        module.exit_json(changed=False, **build_host.run(job, secrets, commands))
    except MadError as error:
        module.fail_json(msg=error.message, failure_class=error.failure_class)
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename or "the host", error.strerror or error), failure_class="infra")


if __name__ == "__main__":
    main()
