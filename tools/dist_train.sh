#!/usr/bin/env bash
# Train with several processes: tools/dist_train.sh CONFIG N [train.py's options]
# One process for each of N GPUs; on a machine without GPUs, N processes on
# the CPU. Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n 2,4p "$0" >&2
    exit 2
fi
config=$1
processes=$2
root=$(cd "$(dirname "$0")/.." && pwd)

# Signals reach torchrun, which passes them on to the processes.
export PYTHONPATH="$root:${PYTHONPATH:-}"
exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$processes" \
    "$root/tools/train.py" "$config" --launcher pytorch "${@:3}"
