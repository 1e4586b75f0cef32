#!/bin/sh
# mad.engine: run 00000000000000aa, attempt 2, model 'dir/m'
set -u
umask 022
base=/myworkspace
io=/.mad
dir=/myworkspace/repo

note() {
  up=0
  { read -r up rest </proc/uptime; } 2>/dev/null || up=$(date +%s) # a /proc that may not be read: any clock will do
  printf '%s %s\n' "$up" "$*" >>"$io/phases"
}
give_up() { # phase, exit status, detail
  note fail "$1" "$2" "${3-}"
  leave 0
}
leave() {
  chmod -R a+rwX "$base" "$io" 2>/dev/null
  exit "$1"
}

note begin prepare
[ -r "$io/env.sh" ] || give_up prepare 1 "the environment cannot be read" # a failed `.` would end the shell
# shellcheck disable=SC1091
. "$io/env.sh"
rm -f "$io/env.sh"
cd "$base" || give_up prepare "$?" "the work folder cannot be entered"

# git of any version that knows it trusts this folder, without a file of the user being touched
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'

: "${ROCM_PATH:=/opt/rocm}"
export ROCM_PATH

export GIT_TERMINAL_PROMPT=0
note begin clone
mkdir -p "$io/artifacts"
if [ -n "${git_SSH_KEY-}" ]; then
  (umask 077 && printf "%s\n" "$git_SSH_KEY" >"$io/git_key")
  export GIT_SSH_COMMAND="ssh -i $io/git_key -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new"
fi
# shellcheck disable=SC2016
git -c credential.helper= -c 'credential.https://example.com.helper=!f() { printf "username=%s\npassword=%s\n" "${git_USERNAME-}" "${git_PASSWORD-}"; }; f' clone --recurse-submodules -- https://example.com/x/repo.git "$dir" >>"$io/pre.log" 2>&1 </dev/null || give_up clone "$?"
commit=$(git -C "$dir" rev-parse HEAD 2>/dev/null) && note commit "$commit"
rm -f "$io/git_key"
unset GIT_SSH_COMMAND

note begin pre 0
cp -R "$base"/scripts/common/pre.sh "$dir"/ || give_up pre "$?" 0
(cd "$dir" && exec bash ./pre.sh 0 'a b') >>"$io/pre.log" 2>&1 </dev/null || give_up pre "$?" 0

note begin prepare
cp -R "$base"/scripts/m/. "$dir"/ || give_up prepare "$?" "the scripts could not be copied into the run directory"

note begin model
(cd "$dir" && exec bash run.sh --a 'it'"'"'s') >"$io/model.log" 2>&1 </dev/null
code=$?
note exit model "$code"

bring() {
  [ "$#" -eq 0 ] || cp -- "$@" "$io/artifacts/" || note fail collect "$?"
}
collect() {
  note begin collect
  set --
  for file in "$base"/*_profiler_output.csv "$base"/*_output.csv "$base"/*_trace.csv "$base"/library_trace.csv "$base"/*_env.csv; do
    [ ! -f "$file" ] || set -- "$@" "$file"
    [ "$#" -lt 200 ] || { bring "$@"; set --; }
  done
  bring "$@"
  [ ! -f "$base"/'perf m.csv' ] || bring "$base"/'perf m.csv'
  set --
  for file in "$dir"/*_profiler_output.csv "$dir"/*_output.csv "$dir"/*_trace.csv "$dir"/library_trace.csv "$dir"/*_env.csv; do
    [ ! -f "$file" ] || set -- "$@" "$file"
    [ "$#" -lt 200 ] || { bring "$@"; set --; }
  done
  bring "$@"
  [ ! -f "$dir"/'perf m.csv' ] || bring "$dir"/'perf m.csv'
}

collect_and_give_up() {
  collect
  give_up "$@"
}

note begin post 0
cp -R "$base"/scripts/common/post.sh "$dir"/ || collect_and_give_up post "$?" 0
(cd "$dir" && exec bash ./post.sh) >>"$io/post.log" 2>&1 </dev/null || collect_and_give_up post "$?" 0

note begin post 1
cp -R "$base"/scripts/x/y.sh "$dir"/ || collect_and_give_up post "$?" 1
(cd "$dir" && exec bash ./y.sh) >>"$io/post.log" 2>&1 </dev/null || collect_and_give_up post "$?" 1

collect

note end
leave 0
