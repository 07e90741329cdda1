# What a job has to know of the cluster; every job script sources it. This is the one file to edit for a
# cluster: modules, the virtual environment, network interfaces. For example:
#
#   module load cuda/12.8
#   export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0

# `pelagos submit` says which Python it was started with; by hand it is the one on the path.
PELAGOS_PYTHON=${PELAGOS_PYTHON:-python}

# How often a run that dies after the same checkpoint goes back into the queue before it is left to you.
RETRIES=${RETRIES:-3}

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}
# srun does not take over what sbatch was told since SLURM 22.05: tasks would be pinned to one core each.
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=${SRUN_CPUS_PER_TASK:-$SLURM_CPUS_PER_TASK}

pelagos() { "$PELAGOS_PYTHON" -m pelagos.pipeline "$@"; }

# Where the processes of a step meet: the first node, on which this script runs, at a port that is free
# there now. The address is the one that SLURM uses; a node's name may not resolve everywhere.
rendezvous() {
  local first
  first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  MASTER_ADDR=$(scontrol show node "$first" --oneliner | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')
  MASTER_PORT=$("$PELAGOS_PYTHON" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
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
  srun --wait=120 "$PELAGOS_PYTHON" -m pelagos.pipeline "$@" || code=$?
  # A job that was cancelled, preempted or is out of time is RUNNING no more; SLURM knows what becomes of it.
  if [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ] && worth_another_try "$run" "$code"; then
    echo "exit code $code: back into the queue, to go on from the newest checkpoint"
    scontrol requeue "$SLURM_JOB_ID"
  fi
  exit "$code"
}

# worth_another_try RUN CODE: whether a run that ended so should go on in another job.
worth_another_try() {
  local checkpoint
  case $2 in
    75) return 0 ;;  # it was asked to stop (--signal) and has left a checkpoint
    0 | 1 | 2) return 1 ;;  # it is done, or has told what you have to mend
  esac
  # A process died. Where this happens again and again after the same checkpoint, the cause stays.
  checkpoint=$(tr -d ' \n' 2>/dev/null <"$1/checkpoints/latest.json")
  echo "${checkpoint:-none}" >>"$1.failures"
  [ "$(grep --count --fixed-strings --line-regexp "${checkpoint:-none}" "$1.failures")" -le "$RETRIES" ]
}
