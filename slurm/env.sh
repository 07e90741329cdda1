# What a job has to know of the cluster; every job script sources it. This is the one file to edit for a
# cluster: modules, the virtual environment, network interfaces. For example:
#
#   module load cuda/12.8
#   export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0

# `pelagos submit` says which Python it was started with; by hand it is the one on the path.
PELAGOS_PYTHON=${PELAGOS_PYTHON:-python}

# How often a run that dies after the same checkpoint goes back into the queue before it is left to you.
RETRIES=${RETRIES:-3}
# The same of one that ends with 74: a fault that passes, such as a full disk or a server that is away. It waits ever
# longer, at most so many seconds.
TEMPORARY_RETRIES=${TEMPORARY_RETRIES:-12}
LONGEST_WAIT=${LONGEST_WAIT:-3600}

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
# srun does not take over what sbatch was told since SLURM 22.05: tasks would be pinned to one core each.
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=${SRUN_CPUS_PER_TASK:-$SLURM_CPUS_PER_TASK}

# -P: modules come from where Pelagos is installed and from PYTHONPATH, never from the folder that a job starts in.
pelagos() { "$PELAGOS_PYTHON" -P -m pelagos.pipeline "$@"; }

# Where the processes of a step meet: the first node, on which this script runs, at a port that is free
# there now. The address is the one that SLURM uses; a node's name may not resolve everywhere. A port computed from
# the job's number could be another job's where two clusters share a machine.
rendezvous() {
  local first
  first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  MASTER_ADDR=$(scontrol show node "$first" --oneliner | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')
  MASTER_PORT=$("$PELAGOS_PYTHON" -P -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
  export MASTER_ADDR MASTER_PORT
  # sbatch passes on the environment of the shell that submits, where another launcher may have left its own.
  unset RANK WORLD_SIZE LOCAL_RANK
}

# train COMMAND CONFIG [KEY=VALUE ...] trains with one process a task, over NCCL on GPUs and gloo on CPUs.
# Ranks come from SLURM's own variables. Then the job ends, or goes back into the queue to go on.
train() {
  local run code=0
  # By hand, the configuration is asked where the run is; that also finds its errors before the step starts.
  run=${PELAGOS_RUN:-$(pelagos check "${@:2}" | sed -n 's/^output: //p')}
  [ -n "$run" ] || exit 2
  rendezvous
  # At the job's end SLURM signals the step as well; this shell only has to outlive the step.
  trap : TERM
  # Not --kill-on-bad-exit: processes that stop on request end with 75, some a little before others.
  srun --wait=120 "$PELAGOS_PYTHON" -P -m pelagos.pipeline "$@" || code=$?
  leave "$run" "$code"
}

# alone COMMAND CONFIG [KEY=VALUE ...] runs a command in one process; then the job ends or goes back into the queue.
alone() {
  local code=0
  trap : TERM
  pelagos "$@" || code=$?
  # Only what passes by itself, and a sweep that was asked to stop: these commands have no checkpoint that tells one death
  # from another.
  case $code in
    74 | 75) leave "${PELAGOS_RUN:-$PWD/$SLURM_JOB_NAME}" "$code" ;;
  esac
  exit "$code"
}

# leave PATH CODE ends the job, or puts it back into the queue where another try may end well. Tries are counted
# in PATH.failures.
leave() {
  local delay
  # A job that was cancelled, preempted or is out of time is no longer RUNNING, though it ends with 75 as well: SLURM knows
  # what becomes of it.
  if [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ] && delay=$(next_try "$1" "$2"); then
    echo "exit code $2: back into the queue, to go on with what is kept${delay:+, in $delay s or later}"
    scontrol requeue "$SLURM_JOB_ID"
    [ -z "$delay" ] || postpone "$delay"
  fi
  exit "$2"
}

# postpone SECONDS: the job, which SLURM is ending to queue it again, shall not start before then.
postpone() {
  local try
  for try in 1 2 3 4 5 6 7 8 9 10; do
    scontrol update JobId="$SLURM_JOB_ID" StartTime="now+$1" 2>/dev/null && return
    sleep 1
  done
  echo "SLURM does not let the job wait $1 s; it starts when SLURM sees fit"
}

# next_try PATH CODE: whether a command that ended so should go on in another job; prints how long to wait before [s],
# nothing where SLURM's own two minutes will do.
next_try() {
  local at times
  case $2 in
    75) return 0 ;;  # it was asked to stop (--signal) and has left a checkpoint
    0 | 1 | 2) return 1 ;;  # it is done, or has told what you have to mend
  esac
  # Where it ends so again and again after the same checkpoint, the cause stays. SLURM's own count of restarts would not
  # do: preemptions, which say nothing about a fault, count there too.
  at=$(tr -d ' \n' 2>/dev/null <"$1/checkpoints/latest.json")
  at="$2 ${SLURM_ARRAY_TASK_ID:+task $SLURM_ARRAY_TASK_ID }${at:-none}"
  # A full disk may not take the line; then the longest wait is right.
  if ! echo "$at" >>"$1.failures"; then echo "$LONGEST_WAIT" && return 0; fi
  times=$(grep --count --fixed-strings --line-regexp "$at" "$1.failures")
  if [ "$2" = 74 ]; then
    # The disk is full, a server is away: waits of 2, 4, 8, ... minutes. Retries in quick succession would leave to people
    # what a night would have mended.
    [ "$times" -le "$TEMPORARY_RETRIES" ] || return 1
    times=$((60 << (times < 16 ? times : 16)))
    echo $((times < LONGEST_WAIT ? times : LONGEST_WAIT))
  else
    [ "$times" -le "$RETRIES" ]
  fi
}
