#!/usr/bin/env bash
# Train for weeks on a slurm cluster that stops and preempts jobs:
#   sbatch [--partition=… --nodes=4 --gpus-per-node=8 --ntasks-per-node=8
#       --cpus-per-task=8 --time=…] tools/slurm_batch.sh CONFIG WORK_DIR [train.py's options]
# Two minutes before the time is up, or when the job is preempted, training
# saves a checkpoint; the job goes back into the queue and goes on from there.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail
if [ "${1:-}" = --help ]; then
    sed -n 2,6p "$0"
    exit
fi
if [ $# -lt 2 ]; then
    sed -n 2,6p "$0" >&2
    exit 2
fi
if [[ " ${*:3}" =~ " --resume"([ =]|$) ]]; then
    echo '--resume: this script gives it, at each start' >&2
    exit 2
fi
# slurm runs a copy of this file; the job starts where sbatch was called.
root=${SLURM_SUBMIT_DIR:-$PWD}
if [ ! -f "$root/tools/train.py" ]; then
    echo "$root: must be the folder with tools/train.py; call sbatch there" >&2
    exit 2
fi
# Another job may have MMEngine's default on the same node.
export MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 10000))}
again=
stop() {
    again=${again:-$1}  # slurm's TERM may follow, when the time is up
    # Every process of the step, if it has begun.
    scancel --signal=USR1 "$SLURM_JOB_ID.0" || true
}
trap 'stop USR1' USR1
trap 'stop TERM' TERM

PYTHONPATH="$root:${PYTHONPATH:-}" \
    srun --kill-on-bad-exit=0 \
    ${SLURM_CPUS_PER_TASK:+"--cpus-per-task=$SLURM_CPUS_PER_TASK"} \
    python -u "$root/tools/train.py" "$1" \
    --work-dir "$2" --launcher slurm --resume "${@:3}" &
step=$!
status=0
wait $step || status=$?
# A signal ends the first wait, not the step.
while kill -0 $step 2>/dev/null; do
    status=0
    wait $step || status=$?
done
if [ -n "$again" ] && [ $status != 0 ]; then
    # TERM is of a preemption, or of scancel: then the job is at its end.
    state=$(scontrol show job "$SLURM_JOB_ID" || true)
    if [ "$again" = TERM ] &&
        [[ ! $state =~ JobState=RUNNING|PreemptTime=[0-9] ]]; then
        echo 'cancelled: not put back into the queue'
        exit $status
    fi
    echo "stopped with status $status: back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit $status
