#!/usr/bin/env bash
# Train with several processes: tools/dist_train.sh CONFIG N [train.py's options]
# One process for each of N GPUs; on a machine without GPUs, N processes on
# the CPU. Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT (one
# alone finds a free port by itself).
# MAX_RESTARTS=3 starts all processes again, up to three times, when one dies;
# then NNODES=1:4 goes on with as many machines as are left (docs/weeks.md).
set -euo pipefail
if [ "${1:-}" = --help ]; then
    sed -n 2,7p "$0"
    exit
fi
if [ $# -lt 2 ]; then
    sed -n 2,7p "$0" >&2
    exit 2
fi
config=$1
processes=$2
root=$(cd "$(dirname "$0")/.." && pwd)
nodes=${NNODES:-1}
address=${MASTER_ADDR:-127.0.0.1}
port=${PORT:-29500}
restarts=${MAX_RESTARTS:-0}
if [ "$restarts" != 0 ]; then
    if [[ " ${*:3}" =~ " --resume"(=|" "[^-]) ]]; then
        echo 'MAX_RESTARTS: --resume FILE would begin at FILE each time; go on' \
            'from it once without MAX_RESTARTS, then give --resume alone' >&2
        exit 2
    fi
    # Else gloo finds the addresses of processes that have died.
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
fi
if [ "$nodes" = 1 ] && [ -z "${PORT:-}" ]; then
    # Another training on this machine has another port.
    meeting=(--standalone --local_addr="$address")
elif [ "$restarts" != 0 ]; then # they meet anew each time, without numbers
    meeting=(--rdzv_backend=c10d --rdzv_endpoint="$address:$port"
        --rdzv_id="${RDZV_ID:-$(basename "$config")}")
else
    meeting=(--node_rank="${NODE_RANK:-0}" --master_addr="$address"
        --master_port="$port")
fi

# Signals reach torchrun, which passes them on to the processes, and gives them
# time to save.
export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-300}"
export PYTHONPATH="$root:${PYTHONPATH:-}"
exec python -m torch.distributed.run \
    --nnodes="$nodes" \
    --max_restarts="$restarts" \
    "${meeting[@]}" \
    --nproc_per_node="$processes" \
    "$root/tools/train.py" "$config" --launcher pytorch "${@:3}"
