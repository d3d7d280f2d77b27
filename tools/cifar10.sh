#!/usr/bin/env bash
# CIFAR-10: pre-train, fine-tune, probe, and the same from scratch.
#   tools/cifar10.sh [SIZE] [WORK_DIR]
# SIZE is mini (two CPU cores, an hour) or tiny (one GPU). The images must be in
# data/cifar10; tools/dataset_converters/cifar10.py downloads them. A stage
# whose checkpoint is there is not run again.
set -euo pipefail
cd "$(dirname "$0")/.."
size=${1:-mini}
work_dir=${2:-work_dirs/cifar10_$size}
case $size in
mini)
    pretrain=saim_vit-mini-p4_1xb128-coslr-5e_cifar10
    finetune=vit-mini-p4_1xb128-coslr-5e_cifar10
    linear=vit-mini-p4_1xb128-linear-coslr-5e_cifar10
    epochs=(5 5 5)
    ;;
tiny)
    pretrain=saim_vit-tiny-p4_1xb512-amp-coslr-400e_cifar10
    finetune=vit-tiny-p4_1xb256-amp-coslr-100e_cifar10
    linear=vit-tiny-p4_1xb256-linear-coslr-50e_cifar10
    epochs=(400 100 50)
    ;;
*)
    echo "SIZE=$size: must be mini or tiny" >&2
    exit 2
    ;;
esac
if [ ! -d data/cifar10/train ]; then
    echo 'data/cifar10/train: no such folder; make it with' \
        'python tools/dataset_converters/cifar10.py' >&2
    exit 2
fi

train() {
    local name=$1 config=$2 epochs=$3
    shift 3
    if [ ! -e "$work_dir/$name/epoch_$epochs.pth" ]; then
        mkdir -p "$work_dir"
        echo "$name: see $work_dir/$name.log"
        python tools/train.py "configs/$config.py" \
            --work-dir "$work_dir/$name" "$@" >"$work_dir/$name.log" 2>&1
    fi
}

train pretrain "pretrain/$pretrain" "${epochs[0]}"
weights=model.backbone.init_cfg.checkpoint=$work_dir/pretrain/epoch_${epochs[0]}.pth
train finetune "classification/$finetune" "${epochs[1]}" --cfg-options "$weights"
train linear "classification/$linear" "${epochs[2]}" --cfg-options "$weights"
# Without pre-training all blocks learn at the same rate.
train scratch "classification/$finetune" "${epochs[1]}" --cfg-options \
    model.backbone.init_cfg=None optim_wrapper.paramwise_cfg.layer_decay_rate=1.0

python tools/knn.py "configs/classification/$finetune.py" \
    --cfg-options "$weights" 2>/dev/null | tee "$work_dir/knn.txt"
for name in finetune linear scratch; do
    echo "$name: $(grep -o 'accuracy/top1: [0-9.]*' "$work_dir/$name.log" |
        tail -1)"
done | tee "$work_dir/results.txt"
