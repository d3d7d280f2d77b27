#!/usr/bin/env bash
# Test with several processes: tools/dist_test.sh CONFIG CHECKPOINT N [test.py's options]
# One process for each of N GPUs; on a machine without GPUs, N processes on
# the CPU. Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT (one
# alone finds a free port by itself).
set -euo pipefail
if [ "${1:-}" = --help ]; then
    sed -n 2,5p "$0"
    exit
fi
if [ $# -lt 3 ]; then
    sed -n 2,5p "$0" >&2
    exit 2
fi
config=$1
checkpoint=$2
processes=$3
root=$(cd "$(dirname "$0")/.." && pwd)
nodes=${NNODES:-1}
address=${MASTER_ADDR:-127.0.0.1}
if [ "$nodes" = 1 ] && [ -z "${PORT:-}" ]; then
    # A training on this machine has another port.
    meeting=(--standalone --local_addr="$address")
else
    meeting=(--node_rank="${NODE_RANK:-0}" --master_addr="$address"
        --master_port="${PORT:-29500}")
fi

PYTHONPATH="$root:${PYTHONPATH:-}" \
    python -m torch.distributed.run \
    --nnodes="$nodes" \
    "${meeting[@]}" \
    --nproc_per_node="$processes" \
    "$root/tools/test.py" "$config" "$checkpoint" --launcher pytorch "${@:4}"
