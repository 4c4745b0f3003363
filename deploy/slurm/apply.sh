#!/bin/bash
# One run as an array of eight tasks (docs/machines.md): sbatch deploy/slurm/apply.sh migration.yaml
# Started from a folder that all nodes have; state and reports of the tasks are kept there.
#SBATCH --job-name=crossdock
#SBATCH --array=0-7
#SBATCH --cpus-per-task=2
#SBATCH --mem=1G
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
#SBATCH --output=crossdock-%A-%a.log
set -eu
file=${1:?"usage: sbatch $0 FILE"}

# exec: Slurm sends SIGTERM to the batch script alone, a minute before the time is over.
exec crossdock apply "$file" --shard auto --progress plain \
    --state "shards/$SLURM_ARRAY_TASK_ID" --report "shards/$SLURM_ARRAY_TASK_ID.json"
