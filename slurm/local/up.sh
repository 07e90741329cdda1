#!/usr/bin/env bash
# Brings up a SLURM of two nodes on this machine, for tests and for trying out job scripts:
#
#   . <(slurm/local/up.sh FOLDER)     # prints the one variable that sbatch, srun and squeue need
#   slurm/local/down.sh FOLDER
#
# Needs Debian's or Ubuntu's packages slurm-wlm and munge (apt-get install slurm-wlm munge), no cgroups and
# no systemd. All that it writes is in FOLDER; ports are free ones; so there may be several, and a SLURM that
# the machine has already is not touched.
set -euo pipefail

folder=$(mkdir -p "$1" && cd "$1" && pwd)
user=$(id -un)
export PATH=$PATH:/usr/sbin:/sbin SLURM_CONF=$folder/slurm.conf

for program in munged slurmctld slurmd sbatch; do
  command -v "$program" >/dev/null || { echo "there is no $program: apt-get install slurm-wlm munge" >&2; exit 1; }
done

read -r control first second < <(python3 - <<'PYTHON'
import socket
sockets = [socket.socket() for _ in range(3)]
for free in sockets:
    free.bind(("127.0.0.1", 0))
print(*(free.getsockname()[1] for free in sockets))
PYTHON
)
host=$(hostname -s)
memory=$(awk '/MemTotal/ { print int($2 / 2048) }' /proc/meminfo)

mkdir -p "$folder"/{munge,state,spool,log}
# munged wants a key that nobody else can read.
(umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")

cat >"$SLURM_CONF" <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$control
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
MailProg=/bin/true
# Each node is a core, whatever the machine has.
SlurmdParameters=config_overrides
ReturnToService=2
# A dead node is found out after seconds, not minutes.
SlurmdTimeout=6
SchedulerParameters=sched_interval=2,batch_sched_delay=1,sched_min_interval=200000
KillWait=20
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$first,$second] CPUs=1 RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
CONF

# By force: it would insist on folders that everybody can enter, which a temporary one is not.
munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
  --log-file="$folder/log/munged.log" --seed-file="$folder/munge/seed" --num-threads=2 >&2
slurmctld
slurmd -N n1
slurmd -N n2

for _ in $(seq 100); do
  if [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ]; then
    echo "export SLURM_CONF=$SLURM_CONF"
    exit 0
  fi
  sleep 0.1
done
echo "the nodes are not idle after ten seconds; see $folder/log" >&2
sinfo >&2 || true
exit 1
