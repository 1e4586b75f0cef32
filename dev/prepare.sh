# shellcheck shell=sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Sourced by dev/demo and dev/test after `here` is set: brings what a bare Debian lacks (root) or says which line does.

python=${PYTHON:-python3}

# need WHAT-IS-MISSING PACKAGE...: as root install the packages, otherwise print the line and stop.
need() {
  what=$1
  shift
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "dev: missing: $what; installing $*" >&2
    log=$(mktemp)
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1; then
      tail -n 20 "$log" >&2
      echo "dev: apt-get could not install $* (all of its output: $log)" >&2
      exit 1
    fi
    rm -f "$log"
  else
    echo "dev: missing: $what. Run this once:  sudo apt-get update && sudo apt-get install -y --no-install-recommends $*" >&2
    exit 1
  fi
}

# prepare_python [tools]: an interpreter that can make virtual environments (ensurepip is Debian's python3-venv), and what tests call.
prepare_python() {
  missing='' packages=''
  if ! command -v "$python" >/dev/null 2>&1; then
    lack "$python" python3 python3-venv ca-certificates
  elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    lack "Python's venv" python3-venv ca-certificates
  fi
  if [ "${1-}" = tools ]; then
    command -v git >/dev/null 2>&1 || lack git git
    command -v ssh-keygen >/dev/null 2>&1 || lack ssh-keygen openssh-client
  fi
  # shellcheck disable=SC2086  # a list of package names
  [ -z "$missing" ] || need "$missing" $packages
}

lack() {
  missing="$missing${missing:+, }$1"
  shift
  packages="${packages}${packages:+ }$*"
}
