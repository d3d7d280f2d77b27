#!/usr/bin/env bash
# The benchmarks that decide, in ten minutes or less on one large GPU.
#   tools/benchmarks/all.sh [OUT] [BATCH] [WORKERS]
# Tables go to OUT/*.md, curves to OUT/*.png. PYTHON names the interpreter. If
# one fails the others run all the same.
set -euo pipefail
if [ "${1:-}" = --help ]; then
    sed -n 2,5p "$0"
    exit
fi
cd "$(dirname "$0")/../.."
out=${1:-work_dirs/bench}
batch=${2:-256}
workers=${3:-$(nproc)}
mkdir -p "$out"
failed=0

measure() {
    local name=$1 script=$2
    shift 2
    echo "== $script $*"
    # What PyTorch warns of stays in the log.
    "${PYTHON:-python}" "tools/benchmarks/$script" "$@" 2>"$out/$name.log" |
        tee "$out/$name.md" || {
        failed=1
        echo "FAILED: $(tail -n 1 "$out/$name.log") (see $out/$name.log)"
    }
}
loader="train_dataloader.batch_size=$batch train_dataloader.num_workers=$workers"
measure pretrain pretrain.py --batch-size "$batch" --steps 10
measure dataloader dataloader.py --workers "$workers" --number 1024 --rounds 3
measure epoch epoch.py --number 4096 --steps 40 --cfg-options $loader
measure epoch_compiled epoch.py --number 4096 --steps 40 \
    --cfg-options $loader compile=True
measure losses losses.py --out "$out" \
    --cfg-options train_dataloader.batch_size=64
measure sweep pretrain.py --sweep --batch-size "$batch" --out "$out"
measure methods methods.py --batch-size "$batch" --steps 10
measure detection detection.py --batch-size 4
gpus=$({ nvidia-smi -L 2>/dev/null || true; } | wc -l)
if [ "$gpus" -gt 1 ]; then
    measure scaling scaling.py --processes "$gpus" --steps 20 \
        --cfg-options train_dataloader.batch_size="$batch"
fi
exit $failed
