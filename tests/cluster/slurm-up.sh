#!/usr/bin/env bash
# Starts a SLURM of two make-believe nodes on this machine, as root, without systemd, and leaves /etc as it is.
# Usage: slurm-up.sh FOLDER (a short path, fresh, on a local disk); then export SLURM_CONF=FOLDER/slurm.conf
# Needs: apt-get install -y --no-install-recommends slurm-wlm munge
set -euo pipefail
folder=$(realpath -m "$1")
host=$(hostname -s)
mkdir -p "$folder/state" "$folder/spool-n1" "$folder/spool-n2"
chmod 755 "$folder"
head -c 1024 /dev/urandom > "$folder/munge.key"
chmod 400 "$folder/munge.key"
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
  --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" --num-threads=2
port=$((17000 + $$ % 2000 * 3))
# cred_expire: how long a requeued job waits before it may start (default: two minutes).
cat > "$folder/slurm.conf" <<CONF
ClusterName=medkit
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
ReturnToService=2
JobRequeue=1
KillWait=5
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=2 RealMemory=8000
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=2 RealMemory=8000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
: > "$folder/cgroup.conf"
export SLURM_CONF="$folder/slurm.conf"
slurmctld -c
slurmd -N n1
slurmd -N n2
for _ in $(seq 100); do
  [ "$(sinfo -h -t idle -o %D)" = 2 ] && exit 0
  sleep 0.1
done
tail -n 5 "$folder/slurmctld.log" >&2
exit 1
