#!/usr/bin/env bash
# Train on a slurm cluster:
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [train.py's options]
# 32 GPUs on nodes of 8 each unless GPUS, GPUS_PER_NODE say otherwise; see also
# CPUS_PER_TASK and SRUN_ARGS.
set -euo pipefail
if [ "${1:-}" = --help ]; then
    sed -n 2,5p "$0"
    exit
fi
if [ $# -lt 4 ]; then
    sed -n 2,5p "$0" >&2
    exit 2
fi
gpus=${GPUS:-32}
gpus_per_node=${GPUS_PER_NODE:-8}
on_each=$((gpus < gpus_per_node ? gpus : gpus_per_node))
# Another job may have MMEngine's default on the same node.
export MASTER_PORT=${MASTER_PORT:-$((20000 + RANDOM % 10000))}
root=$(cd "$(dirname "$0")/.." && pwd)

# SRUN_ARGS is meant to be split into words.
# shellcheck disable=SC2086
PYTHONPATH="$root:${PYTHONPATH:-}" \
    srun --partition="$1" \
    --job-name="$2" \
    --gres=gpu:"$on_each" \
    --ntasks="$gpus" \
    --ntasks-per-node="$on_each" \
    --cpus-per-task="${CPUS_PER_TASK:-8}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    python -u "$root/tools/train.py" "$3" --work-dir "$4" --launcher slurm "${@:5}"
