#!/usr/bin/env bash
# Ends the jobs and daemons that slurm-up.sh FOLDER has started. Usage: slurm-down.sh FOLDER
folder=$(realpath "$1")
export SLURM_CONF="$folder/slurm.conf"
scancel --quiet -u "$(id -un)"
for _ in $(seq 50); do
  [ -z "$(squeue -h)" ] && break
  sleep 0.1
done
for name in slurmd-n1 slurmd-n2 slurmctld munged; do
  [ -f "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")"
done
exit 0
