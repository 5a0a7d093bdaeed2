#!/bin/bash
# An exploration on a cluster with Slurm: one task of an array for each shard, then one journal of all.
#
#     sbatch --array=1-8 examples/cluster/slurm.sh
#
# A task that is killed, or requeued, goes on from its journal. Run this from a checkout on a file system that all nodes share.
#SBATCH --job-name=explore
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
#SBATCH --requeue
set -euo pipefail

MODEL=${MODEL:-qwen3-0.6b}
PLAN=${PLAN:-stream}
VARY=${VARY:-slots=8..12,window=1..6,handoff=*}
RUNS=${RUNS:-runs}
# Libraries that one task compiled are there for all.
export ONELAUNCH_CACHE=${ONELAUNCH_CACHE:-$PWD/$RUNS/libraries}
mkdir -p "$RUNS"

shard=${SLURM_ARRAY_TASK_ID:-1}
shards=${SLURM_ARRAY_TASK_COUNT:-1}
npm run -s gen -- explore --model "$MODEL" --plan "$PLAN" --vary "$VARY" \
  --shard "$shard/$shards" --journal "$RUNS/$shard.jsonl"

# When all are done:
#     npm run -s gen -- explore merge runs/*.jsonl --journal all.jsonl
