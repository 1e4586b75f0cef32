#!/usr/bin/env bash
# mad.engine: run 0000000000000001
# Campaign 20261124T101500Z; this file and what it needs lie below the folder named here. Logs and results come home by themselves.
#SBATCH --job-name=mad-8360a66cbe5c
#SBATCH --chdir=/shared/mad/campaigns/20261124T101500Z.0123456789ab
#SBATCH --output=/shared/mad/campaigns/20261124T101500Z.0123456789ab/submissions/mad-8360a66cbe5c/slurm-%j.log
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --time=00:16:00
#SBATCH --partition=gpu
#SBATCH --account=ml
#SBATCH --exclude=n7
#SBATCH --exclusive
#SBATCH --no-requeue
#SBATCH --open-mode=append

set -u
[ -d "${TMPDIR:-/tmp}" ] || export TMPDIR=/tmp # the login node's may not be here
folder=/shared/mad/campaigns/20261124T101500Z.0123456789ab
nodes=2
parts=1 # the model's script runs on the first node and starts its own steps on the others
wanted_interface=''

# -- which run this is -------------------------------------------------------------------------------------------------------------

run=0000000000000001 attempt=1
home="$folder/runs/$run/attempt-$attempt"
runtime=host container='' image='' timeout=0 grace=10 resumable=0 port=29500
# Settings of this run (the variables above), written beside its other files when it was submitted.
# shellcheck disable=SC1091
. "$home/settings.sh" || exit 78

# The site's modules; `module` is a function of the login shell. What sites write for it is not written for `set -u`.
unloaded=''
set +u
command -v module >/dev/null || { [ -r /etc/profile ] && . /etc/profile; }
module load rocm/6.4 || unloaded=rocm/6.4
module load python/3.12 || unloaded=python/3.12
set -u

# -- what the model finds in its environment -----------------------------------------------------------------------------------------

launch_environment() {
  MAD_COLLECT=true
  if [ "$NODE_RANK" -ne 0 ]; then MAD_COLLECT=false; fi
  export NCCL_SOCKET_IFNAME="${wanted_interface:-$(network_interface)}"
  export GLOO_SOCKET_IFNAME="$NCCL_SOCKET_IFNAME"
  export GPUS_PER_NODE=8
  export MAD_COLLECT_METRICS="${MAD_COLLECT}"
  export MAD_DEPLOYMENT_TYPE=slurm
  export MAD_IN_SLURM_JOB=1
  export MAD_LAUNCHER_TYPE=slurm_multi
  export MAD_MULTI_NODE_RUNNER=''
  export MAD_NODE_RANK="${NODE_RANK}"
  export MAD_SLURM_JOB_ID="${SLURM_JOB_ID}"
  export MAD_TOTAL_NODES=2
  export MASTER_ADDR="${MASTER_ADDR}"
  export MASTER_PORT="${MASTER_PORT}"
  export NNODES=2
  export NODE_RANK="${NODE_RANK}"
  export NPROC_PER_NODE=8
  export WORLD_SIZE=16
  names=(GPUS_PER_NODE MAD_COLLECT_METRICS MAD_DEPLOYMENT_TYPE MAD_IN_SLURM_JOB MAD_LAUNCHER_TYPE MAD_MULTI_NODE_RUNNER MAD_NODE_RANK MAD_SLURM_JOB_ID MAD_TOTAL_NODES MASTER_ADDR MASTER_PORT NNODES NODE_RANK NPROC_PER_NODE WORLD_SIZE CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES ZE_AFFINITY_MASK GPU_DEVICE_ORDINAL NCCL_SOCKET_IFNAME GLOO_SOCKET_IFNAME)
}

# -- tools ---------------------------------------------------------------------------------------------------------------------------

note() { # file, lines...: write a marker in one step
  local file=$1
  shift
  printf '%s\n' "$@" >"$file.$$" && mv -f "$file.$$" "$file"
}

part_of() { # rank: the folder of a node's part of the attempt
  printf '%s' "$home"
  [ "$1" -eq 0 ] || printf '/node-%s' "$1"
}

look_again() { # rank: an NFS client remembers for up to a minute what was not there; opening the folder makes it ask
  : <"$(part_of "$1")/io"
} 2>/dev/null

uptime_seconds() {
  local up rest=''
  read -r up rest </proc/uptime
  printf '%s' "$up"
}

quoted() { # one word of shell text that stands for this value
  printf "'%s'" "${1//\'/\'\\\'\'}"
}

address_of() { # node: its name where that resolves, else the address that Slurm uses itself
  local address=''
  if ! getent hosts "$1" >/dev/null 2>&1; then
    address=$(scontrol show node "$1" --oneliner | tr ' ' '\n' | sed -n 's/^NodeAddr=//p')
  fi
  printf '%s' "${address:-$1}"
}

free_port() { # first: one that nothing listens on here, different for jobs that share a node
  local candidate=$((10000 + ($1 + SLURM_JOB_ID) % 20000)) tries=0
  while [ "$tries" -lt 100 ] && (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null; do
    candidate=$((candidate + 1)) tries=$((tries + 1))
  done
  printf '%s' "$candidate"
}

network_interface() { # the one to talk to other nodes through: InfiniBand if it is up, else that of the default route
  local device
  for device in /sys/class/net/ib[0-9]*; do
    [ "$(cat "$device/operstate" 2>/dev/null)" = up ] && basename "$device" && return
  done
  awk '$2 == "00000000" { print $1; exit }' /proc/net/route
}

below() { # pid: every process below it
  local child
  for child in $(pgrep -P "$1"); do
    echo "$child"
    below "$child"
  done
}

pass_on() { # signal: to all that the model runs, not to what keeps the books
  if [ -n "$container" ]; then
    "$runtime" exec "$container-$NODE_RANK" sh -c "kill -$1 -1" >/dev/null 2>&1
  else
    # The list is made undisturbed: Slurm may send its signal more than once, to our whole process group.
    # shellcheck disable=SC2046
    kill "-$1" $(trap '' TERM USR1 && below "$worker") 2>/dev/null
  fi
}

# shellcheck disable=SC2329  # traps call it
told() { # signal: remember it, pass it on
  signal=$1
  [ -z "$worker" ] || pass_on "$1"
}

# -- one node --------------------------------------------------------------------------------------------------------------------------

write_environment() { # $io/env.sh, which the driver reads and removes
  local name
  (umask 077 && cat "$home/env.sh" >"$io/env.sh")
  for name in "${names[@]}"; do
    [ -z "${!name+x}" ] || printf 'export %s=%s\n' "$name" "$(quoted "${!name}")" >>"$io/env.sh"
  done
}

describe() { # what this node is, for the record
  note "$io/node" "node=${SLURMD_NODENAME:-$(hostname)}" "hostname=$(hostname)" "kernel=$(uname -r)" "cpus=$(nproc)" \
    "job=$SLURM_JOB_ID" "clock=$(date +%s.%N)" "uptime=$(uptime_seconds)" "gpus=${SLURM_JOB_GPUS:-}" \
    "nvidia=$(timeout 20 nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1)" \
    "amd=$(timeout 20 rocminfo 2>/dev/null | awk '/^ *Name: *gfx/ { print $2; exit }')"
}

bring_image() { # make sure that exactly the planned image is on the node; staging time, not run time
  [ -n "$image" ] || return 0
  srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --kill-on-bad-exit=0 bash "$home/bring.sh" >>"$io/engine.log" 2>&1
}

watch() { # end the model after its time limit, which begins with the model itself
  trap '' TERM USR1
  until grep -qs ' begin model$' "$io/phases"; do sleep 1; done
  sleep "$timeout"
  note "$io/timed_out" "$timeout"
  pass_on TERM
  sleep "$grace"
  pass_on KILL
}

model_code() { # the model's exit status as the driver noted it; 70 where it noted none
  awk '$2 == "exit" && $3 == "model" { code = $4 } END { print (code == "") ? 70 : code }' "$io/phases" 2>/dev/null || echo 70
}

run_node() { # rank: run the model's part on this node, return its exit status
  local code watcher=''
  NODE_RANK=$1 worker='' signal=''
  io="$(part_of "$1")/io"
  export NODE_RANK
  rm -f "$io/phases" "$io/timed_out" "$io/failed"
  if [ -s "$io/model.log" ]; then # of the time before the job was requeued
    mkdir -p "$io/artifacts"
    mv -f "$io/model.log" "$io/artifacts/model.before-${SLURM_RESTART_COUNT:-0}.log"
  fi
  describe
  names=()
  if [ -n "$unloaded" ]; then
    note "$io/failed" "class=launch" "reason=module load $unloaded failed on this node"
    return 70
  fi
  launch_environment
  write_environment
  if ! bring_image; then
    note "$io/failed" "class=image" "reason=the image $image is not on the node, and could not be brought: $(tail -n 1 "$io/engine.log")"
    return 70
  fi
  # A session of its own: a signal to our process group is not the model's; what is meant for it comes by pass_on.
  setsid bash "$home/start-$1.sh" >>"$io/engine.log" 2>&1 </dev/null &
  worker=$!
  if [ "$timeout" -gt 0 ]; then
    watch &
    watcher=$!
  fi
  wait "$worker"
  while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done # wait returns early when a signal comes
  if [ -n "$watcher" ]; then
    # shellcheck disable=SC2046
    kill -KILL "$watcher" $(below "$watcher") 2>/dev/null
  fi
  if [ -n "$container" ] && [ "$("$runtime" inspect --format '{{.State.OOMKilled}}' "$container-$1" 2>/dev/null)" = true ]; then
    note "$io/oom" "$container-$1"
  fi
  [ -z "$container" ] || "$runtime" rm --force --volumes "$container-$1" >/dev/null 2>&1
  code=$(model_code)
  note "$io/end" "code=$code" "signal=$signal" "clock=$(date +%s.%N)"
  return "$code"
}

# -- the job ---------------------------------------------------------------------------------------------------------------------------

worst() { # of the nodes' exit statuses: 93 (never again) over 75 (run me again) over the largest
  local rank code result=0
  for ((rank = 0; rank < parts; rank++)); do
    look_again "$rank"
    code=$(sed -n 's/^code=//p' "$(part_of "$rank")/io/end" 2>/dev/null)
    code=${code:-70}
    if [ "$code" -eq 93 ] || [ "$result" -eq 93 ]; then
      result=93
    elif [ "$code" -eq 75 ] || [ "$result" -eq 75 ]; then
      result=75
    elif [ "$code" -gt "$result" ]; then
      result=$code
    fi
  done
  printf '%s' "$result"
}

claim() { # of two jobs with the same task only one runs it; a requeued job has its own claim already
  mkdir "$home/claim" 2>/dev/null && note "$home/claim/job" "$SLURM_JOB_ID" && return
  [ "$(cat "$home/claim/job" 2>/dev/null)" = "$SLURM_JOB_ID" ]
}

if ! claim; then
  echo "run $run, attempt $attempt, is run by job $(cat "$home/claim/job" 2>/dev/null) already; this one does nothing"
  exit 0
fi
note "$home/begin" "job=$SLURM_JOB_ID" "submitted=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}" "nodes=$SLURM_JOB_NODELIST" "restarts=${SLURM_RESTART_COUNT:-0}" "clock=$(date +%s.%N)"
rm -f "$home/end" "$home/io/end" "$home"/node-*/io/end # of the time before it was requeued
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
MASTER_ADDR=$(address_of "${hosts[0]}")
MASTER_PORT=$(free_port "$port")
MAD_NODES="${hosts[*]}"
export MASTER_ADDR MASTER_PORT MAD_NODES
worker='' signal=''

trap 'told TERM' TERM
trap 'told USR1' USR1
run_node 0
code=$(worst)

if [ "$code" -eq 75 ] && [ "$resumable" -eq 1 ]; then # the model saved its state and asks to be run again
  task=$SLURM_JOB_ID
  [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || task="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
  scontrol requeue "$task" && exit 75
fi
note "$home/end" "job=$SLURM_JOB_ID" "nodes=$SLURM_JOB_NODELIST" "code=$code" "signal=$signal" "clock=$(date +%s.%N)"
exit "$code"
