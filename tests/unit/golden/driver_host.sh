#!/bin/sh
# mad.engine: run 00000000000000aa, attempt 1, model 'dir/m'
set -u
umask 022
base='/w d/work'
io='/w d/io'
dir='/w d/work/run_directory'

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

mkdir -p "$dir" "$io/artifacts" || give_up prepare "$?" "the run directory cannot be made"

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
  set --
  for file in "$dir"/*_profiler_output.csv "$dir"/*_output.csv "$dir"/*_trace.csv "$dir"/library_trace.csv "$dir"/*_env.csv; do
    [ ! -f "$file" ] || set -- "$@" "$file"
    [ "$#" -lt 200 ] || { bring "$@"; set --; }
  done
  bring "$@"
}

collect

note end
leave 0
