#!/usr/bin/env bash
# Ends the SLURM that up.sh started in FOLDER, its jobs included, and removes the folder.
set -uo pipefail

folder=$(cd "$1" && pwd) || exit 1
export SLURM_CONF=$folder/slurm.conf

scancel --full --signal=KILL --user="$(id -un)" 2>/dev/null
scancel --user="$(id -un)" 2>/dev/null
for _ in $(seq 50); do
  [ -z "$(squeue --noheader 2>/dev/null)" ] && break
  sleep 0.1
done
for name in slurmd-n1.pid slurmd-n2.pid slurmctld.pid munge/pid; do
  pid=$(cat "$folder/$name" 2>/dev/null) || continue
  kill "$pid" 2>/dev/null
  for _ in $(seq 50); do
    # One that has ended stays a zombie where nobody waits for it, as in a container.
    grep --quiet '^State:.[^Z]' "/proc/$pid/status" 2>/dev/null || break
    sleep 0.1
  done
done
rm -rf "$folder"
