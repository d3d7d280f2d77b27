"""Rename the weights of a checkpoint for other code, or for this package.

    python tools/converters/convert.py SOURCE TARGET --to FORMAT
        [--num-heads N] [--half]

The format of SOURCE is found by its names. FORMAT is one of

    mmpretrain   this package and mmpretrain: SAIM, SAIMViT, VisionTransformer,
                 ImageClassifier with a LinearClsHead
    authors      the paper's released code
    semaim       that of SemAIM's authors
    timm         VisionTransformer, as vit_base_patch16_224
    huggingface  ViTForImageClassification of transformers, or ViTModel if
                 there is no classifier, which look for
                 FOLDER/model.safetensors; config.json and
                 preprocessor_config.json are written beside it, if
                 none of another model is there

SOURCE and TARGET are PyTorch checkpoints or .safetensors files; SOURCE may be
saim_mm://NAME, of the model zoo, or a folder, as training with fsdp saves it.
What FORMAT has no place for, the decoder of pre-training, is left out; so is
the state of training. --half writes float16.
Nothing in a checkpoint is executed.
"""

import argparse
import json
import math
from pathlib import Path

from saim_mm.checkpoint.atomic import check_no_folder
from saim_mm.checkpoint.formats import (
    FORMATS,
    detect_format,
    from_format,
    to_format,
)
from saim_mm.checkpoint.loader import load_state_dict, save_state_dict
from saim_mm.datasets.images import MEAN, STD

# Where each kind of code looks for the weights in a PyTorch checkpoint.
KEY = dict(mmpretrain='state_dict', authors='model', semaim='state_dict')


def huggingface_config(weights, num_heads):
    """The config.json of a ViTForImageClassification, or a ViTModel."""
    prefix = 'vit.embeddings.'
    width, channels, patch_size, _ = weights[
        f'{prefix}patch_embeddings.projection.weight'
    ].shape
    patches = weights[f'{prefix}position_embeddings'].shape[1] - 1
    layers = {
        int(name.split('.')[3])
        for name in weights
        if name.startswith('vit.encoder.layer.')
    }
    block = 'vit.encoder.layer.0.'
    config = dict(
        model_type='vit',
        architectures=['ViTModel'],
        hidden_size=width,
        num_hidden_layers=len(layers),
        num_attention_heads=num_heads or max(1, width // 64),
        intermediate_size=len(weights[f'{block}intermediate.dense.weight']),
        image_size=patch_size * math.isqrt(patches),
        patch_size=patch_size,
        num_channels=channels,
        qkv_bias=f'{block}attention.attention.query.bias' in weights,
        layer_norm_eps=1e-6,
    )
    if 'classifier.weight' in weights:
        config['architectures'] = ['ViTForImageClassification']
        classes = range(len(weights['classifier.weight']))
        config['id2label'] = {str(i): f'LABEL_{i}' for i in classes}
        config['label2id'] = {f'LABEL_{i}': i for i in classes}
    return config


def huggingface_preprocessor(side):
    """The preprocessor_config.json: pixels as in pre-training."""
    return dict(
        image_processor_type='ViTImageProcessor',
        do_resize=True,
        size=dict(height=side, width=side),
        resample=3,  # bicubic
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=[value / 255 for value in MEAN],
        image_std=[value / 255 for value in STD],
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('source')
    parser.add_argument('target', type=Path)
    parser.add_argument(
        '--to', required=True, choices=['mmpretrain', *FORMATS]
    )
    parser.add_argument(
        '--num-heads',
        type=int,
        help='of attention, for config.json; '
        'default: a head for every 64 channels',
    )
    parser.add_argument(
        '--half', action='store_true', help='float16, half the size'
    )
    args = parser.parse_args()
    if args.target.resolve() == Path(args.source).resolve():
        parser.error(
            f'TARGET={args.target}: must be another file than SOURCE: what '
            'FORMAT has no place for would be lost'
        )

    try:
        check_no_folder(args.target)
        weights = load_state_dict(args.source)
        format = detect_format(weights)
        if format != 'mmpretrain':
            weights = from_format(weights, format)
        if args.to != 'mmpretrain':
            weights = to_format(weights, args.to)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if args.half:
        weights = {name: value.half() for name, value in weights.items()}
    files = {}
    if args.to == 'huggingface':
        config = huggingface_config(weights, args.num_heads)
        files['config'] = config
        if config['num_channels'] == 3:
            files['preprocessor_config'] = huggingface_preprocessor(
                config['image_size']
            )
    texts = {
        args.target.with_name(f'{name}.json'): json.dumps(content, indent=2)
        + '\n'
        for name, content in files.items()
    }
    for path, text in texts.items():
        if path.is_file() and path.read_text() != text:
            parser.error(
                f'TARGET={args.target}: must be in another folder, or an '
                f'empty one: {path} is of another model'
            )
    save_state_dict(weights, args.target, KEY.get(args.to))
    for path, text in texts.items():
        path.write_text(text)
    print(
        f'{format} -> {args.to}: wrote {len(weights)} weights, {args.target}'
    )


if __name__ == '__main__':
    main()
