"""Which numbers a field may have, by its name."""

from __future__ import annotations

import os

#: Pattern of a field's name (or of class and name) -> the numbers it may have,
#: as an interval, for each number of a list. The first that fits counts.
RANGES: dict[str, str] = {
    # Of MMEngine.
    'num_workers': f'int [0, {4 * (os.cpu_count() or 1) + 64}]',
    'prefetch_factor': 'int [1, 1000]',
    'batch_size|base_batch_size': 'int [1, 1e8)',
    'max_epochs|max_iters|val_interval|accumulative_counts': 'int [1, 1e9]',
    'seed': 'int [0, 4294967295]',
    'opencv_num_threads': 'int [0, 10000]',
    'lr': '[0, 1e6]',
    'weight_decay|eta_min|min_lr|decay_mult|lr_mult': '[0, 1e6]',
    r'SegDataPreProcessor\.size|BatchFixedSizePad\.size': 'int [1, 1e5]',
    r'\w+_decay_mult|\w+_lr_mult': '[0, 1e6]',
    'loss_weight': '[0, 1e6]',
    r'MovingAverageTeacher\.\w+': '(0, 1]',
    'betas|momentum|base_momentum': '[0, 1)',
    'layer_decay_rate|decay_rate': '(0, 1]',
    'max_norm|norm_type|clip_value|sigma|temperature|power': '(0, 1e6]',
    'eps': '[0, 10]',
    'begin': '[0, 1e9)',
    'end|T_max': '(0, 1e9)',
    'start_factor': '(0, 1]',
    'end_factor': '[0, 1]',
    'num_digits': 'int [1, 1e9)',
    r'\w*CheckpointHook\.(interval|max_keep_ckpts)': 'int -1 or [1, 1e9)',
    'interval': 'int [1, 1e9)',
    # Of models.
    'mlp_ratio': '(0, 1000]',
    'num_layers|decoder_depth|num_outs|num_stages': 'int [1, 1000]',
    'depth|num_convs|num_fcs': 'int [0, 1000]',
    r'((in|out|feat|hid|conv_out|fc_out|feedforward)_)?channels|embed_dims?|\w+_embed_dim|(\w+_)?num_heads|in_chans'
    '|input_features|num_patches|channel|num_classes': 'int [1, 1e6]',
    r'(\w+_)?(patch|img|input|image|mask)_size|encoder_stride'
    '|featmap_strides|output_size|roi_feat_size|pad_size_divisor'
    r'|size_divisor|pool_scales|dilations?|(\w+_)?kernel_size'
    '|segment_size': 'int [1, 1e5]',
    r'LogProcessor\.window_size': 'int [1, 1e9)',
    r'(?!custom_cfg\.)\w+\.window_size': 'int [0, 1e5]',
    'sampling_ratio': 'int [-1, 1e5]',
    'drop_path_rate|drop_rate|label_smooth_val': '[0, 1)',
    'dropout_ratio': '-1 or [0, 1)',
    'mask_ratio': '(0, 1)',
    r'SAIM\.prefix': '(0, 1)',
    'out_indices|in_index|global_attn_indexes': 'int [-1000, 1000]',
    'frozen_stages': 'int [-1, 1000]',
    'scales|ratios|rescales|target_stds|crop_size|strides?': '(0, 1e6]',
    'pos_iou_thr|max_area_ratio': '(0, 1]',
    'iou_threshold|score_thr|mask_thr_binary|neg_iou_thr|min_pos_iou'
    '|pos_fraction': '[0, 1]',
    'num|nms_pre': 'int [1, 1e9)',
    'neg_pos_ub|ignore_iof_thr|pos_weight|allowed_border': '[-1, 1e9)',
    'max_per_img': 'int -1 or [1, 1e9)',
    'min_bbox_size': '[0, 1e9)',
    'alpha': '(0, 1e6]',
    # Of data.
    'prob|probs|erase_prob|cat_max_ratio|max_corrupt_ratio|min_match_ratio'
    '|min_area_ratio': '[0, 1]',
    'crop_ratio_range': '(0, 1]',
    'aspect_ratio_range|aspect_range|ratio_range|scale_factor': '(0, 1e6]',
    'brightness|contrast|saturation|channel_weights': '[0, 1000]',
    'hue': '[-0.5, 0.5]',
    r'\w*[pP]re[pP]rocessor\.std': '(0, 1e6]',
    'std': '[0, 1e6]',
    'fill_color|fill_std': '[0, 1000]',
    r'\w*(Resize|ResizeEdge|ResizedCrop)\.scale': '(0, 1e5]',
    'num_(policies|blocks|views)|total_level|max_attempts|max_refetch|topk': (
        'int [1, 1e9)'
    ),
    'magnitude_level|magnitude_std|thr|min_size|min_gt_bbox_wh': '[0, 1e9)',
    'reducing_gap': '[1, inf]',
    'padding|void|mask_pad_value|seg_pad_val': 'int [0, 1e6]',
    'palette': 'int [0, 255]',
    # Any other.
    r'num_\w+': 'int [0, 1e9)',
}
