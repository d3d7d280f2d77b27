#!/usr/bin/env bash
# The small studies of the README: pre-train, then train from that and from
# scratch.
#   tools/small_runs.sh bccd|digit-scenes|camvid [SEED]
# The data must be in data/; tools/dataset_converters/ make it. On one core a
# seed of bccd takes about 40 minutes, of camvid 85. Runs are in
# work_dirs/<study>, those of a SEED other than 0 in work_dirs/<study>-<seed>.
# A stage whose checkpoint is there is not run again, one that was interrupted
# goes on. (CIFAR-10: tools/study/run.py.)
set -euo pipefail
cd "$(dirname "$0")/.."
study=${1:-}
seed=${2:-0}
suffix=
if [ "$seed" != 0 ]; then suffix=-$seed; fi
work_dir=work_dirs/$study$suffix
scratch=model.backbone.init_cfg=None

# stage NAME CHECKPOINT CONFIG [KEY=VALUE …]: train, unless it is done
stage() {
    local name=$1 checkpoint=$2 config=$3
    shift 3
    if [ ! -e "$work_dir/$name/$checkpoint.pth" ]; then
        mkdir -p "$work_dir"
        echo "$name: see $work_dir/$name.log"
        python tools/train.py "configs/$config.py" \
            --work-dir "$work_dir/$name" --resume --cfg-options "randomness.seed=$seed" \
            "$@" >"$work_dir/$name.log" 2>&1
    fi
}

# pretrain CHECKPOINT CONFIG: and set `weights`, the option that loads it
pretrain() {
    stage pretrain "$1" "pretrain/$2"
    weights=model.backbone.init_cfg.checkpoint=$work_dir/pretrain/$1.pth
}

# results PATTERN LOG …: the last value of each log
results() {
    local pattern=$1
    shift
    for log in "$@"; do
        echo "$log: $(grep -Eo "$pattern" "$work_dir/$log.log" |
            tail -1)"
    done | tee "$work_dir/results.txt"
}

case $study in
bccd | digit-scenes)
    config=detection/faster-rcnn_saim-vit-192x4-p8_vitdet_1xb4-coslr-12e_bccd
    epochs=12
    if [ "$study" = bccd ]; then
        pretrain iter_1000 saim_vit-192x4-p8_1xb32-coslr-1000i_bccd
    else # from the weights of bccd
        config=detection/mask-rcnn_saim-vit-192x4-p8_vitdet_1xb8-coslr-6e_digit-scenes
        epochs=6
        weights=model.backbone.init_cfg.checkpoint=work_dirs/bccd$suffix/pretrain/iter_1000.pth
    fi
    stage finetune epoch_$epochs $config "$weights"
    stage scratch epoch_$epochs $config "$scratch"
    for name in finetune scratch; do
        python tools/test.py "configs/$config.py" \
            "$work_dir/$name/epoch_$epochs.pth" --work-dir "$work_dir/$name" \
            >"$work_dir/$name.test.log" 2>&1
    done
    results '(bbox|segm)_mAP: [0-9.]+.*' finetune.test scratch.test
    ;;
camvid)
    pretrain iter_2000 saim_vit-192x4-p8_1xb32-coslr-2000i_camvid
    config=segmentation/saim-vit-192x4-p8_upernet_1xb8-600i_camvid-240x320
    linear=segmentation/saim-vit-192x4-p8_linear_1xb8-200i_camvid-240x320
    stage finetune iter_600 $config "$weights"
    stage scratch iter_600 $config "$scratch"
    stage linear iter_200 $linear "$weights"
    stage linear-random iter_200 $linear "$scratch"
    results 'mIoU: [0-9.]+' finetune scratch linear linear-random
    ;;
*)
    sed -n 2,9p "$0" >&2
    exit 2
    ;;
esac
