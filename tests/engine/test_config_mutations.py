"""A whole config is checked: what is wrong in it is named before anything."""

import functools
import sys
from collections import Counter

import mutations
import pytest
from helpers import call
from mmengine.config import Config

from saim_mm.engine.checks import config
from saim_mm.engine.checks.config import check_config, inspect_config
from saim_mm.utils.check import ConfigError

PRETRAIN = 'configs/pretrain/saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
FOLDER = 'configs/pretrain/saim_vit-demo-p8_1xb64-coslr-500i_folder.py'
CLASSIFY = 'configs/classification/vit-base-p16_8xb128-amp-coslr-100e_in1k.py'
DETECT = (
    'configs/detection/'
    'faster-rcnn_saim-vit-mini-p4_vitdet_1xb4-coslr-12e_bccd.py'
)
SEGMENT = (
    'configs/segmentation/saim-vit-mini-p4_upernet_1xb8-600i_camvid-240x320.py'
)
load = functools.cache(Config.fromfile)


def changed(path, **options):
    """A config as --cfg-options change it."""
    cfg = load(path)
    cfg = mutations.copy(cfg, mutations.plain(cfg._cfg_dict.to_dict()))
    for field, value in options.items():
        if isinstance(value, dict):
            *path, name = field.split('.')
            mutations.at(cfg, path)[name] = value
        else:
            cfg.merge_from_dict({field: value})
    return cfg


SLOW = [pytest.param(seed, 500, 200, None) for seed in (11, 12, 13)]


@pytest.mark.parametrize(
    'seed, wrong, right, of_each',
    [
        (0, 60, 30, 1),
        *(pytest.param(*s.values, marks=pytest.mark.slow) for s in SLOW),
    ],
)
def test_mutations(read_once, seed, wrong, right, of_each):
    """None is silent, late or endless; no right config is refused."""
    draws = mutations.Draws(seed, of_each)
    found = Counter()
    for _ in range(wrong):
        mutation = mutations.mutate(draws)
        try:
            inspect_config(mutation.cfg)
        except ConfigError as error:
            named = mutations.is_named(mutation, str(error))
            found['named' if named else f'{mutation}: {error}'] += 1
        else:
            # Or it is silent.
            assert mutations.works(mutation), str(mutation)
            found['no mistake'] += 1
    unclear = [text for text in found if text not in ('named', 'no mistake')]
    assert found['named'] >= 0.95 * (wrong - found['no mistake']), unclear
    assert found['no mistake'] < 0.1 * wrong
    for _ in range(right):
        name, cfg = mutations.vary(draws)
        inspect_config(cfg)


def arch(**changes):
    return dict(
        dict(
            embed_dims=24,
            num_layers=4,
            num_heads=3,
            feedforward_channels=48,
        ),
        **changes,
    )


PIPELINE = 'train_dataloader.dataset.pipeline.0'
#: Config, field, value -> what the error says beside these.
LITERAL = [
    # Keys that nothing reads.
    (PRETRAIN, 'resum', True, "'resume'"),
    (PRETRAIN, 'load_form', 'a.pth', "'load_from'"),
    (PRETRAIN, 'compil', True, "'compile'"),
    (PRETRAIN, 'fdsp', True, "'fsdp'"),
    (PRETRAIN, 'optim_wraper.optimizer.lr', 0.1, "'optim_wrapper'"),
    (PRETRAIN, 'train_dataloder.batch_size', 8, "'train_dataloader'"),
    (PRETRAIN, 'param_schedular.end', 8, "'param_scheduler'"),
    (PRETRAIN, 'default_hook.timer', None, "'default_hooks'"),
    (CLASSIFY, 'val_evalutor.topk', 1, "'val_evaluator'"),
    (PRETRAIN, 'randomnes.seed', 1, "'randomness'"),
    (PRETRAIN, 'auto_scale_lr.enabel', True, "'enable'"),
    *(
        (CLASSIFY, f'optim_wrapper.paramwise_cfg.{slip}', 0.5, repr(name))
        for slip, name in (
            ('norm_decay_mul', 'norm_decay_mult'),
            ('bias_decay_mlt', 'bias_decay_mult'),
            ('layer_decay_rat', 'layer_decay_rate'),
        )
    ),
    (PRETRAIN, 'model.backbone.arch', arch(embed_dim=24), "'embed_dims'"),
    (PRETRAIN, 'model.backbone.arch', arch(num_layer=24), "'num_layers'"),
    (DETECT, 'model.test_cfg.rcnn.score_th', 0.5, "'score_thr'"),
    (DETECT, 'model.train_cfg.rcnn.sampler.nm', 64, "'num'"),
    (SEGMENT, 'model.test_cfg.mod', 'slide', "'mode'"),
    (
        SEGMENT,
        'train_dataloader.dataset.data_prefix.img_pat',
        'images',
        "'img_path'",
    ),
    # Values that were taken.
    (PRETRAIN, 'optim_wrapper.clip_grad', dict(max_norm=-1), '(0,'),
    (PRETRAIN, 'default_hooks.checkpoint.filename_tmpl', 'ck', '{}'),
    (PRETRAIN, 'train_dataloader.sampler.infinite', 'never', 'True or False'),
    (PRETRAIN, 'model.backbone.qkv_bias', 'no', 'True or False'),
    (PRETRAIN, 'model.neck.share_weights', 'perhaps', 'True or False'),
    (PRETRAIN, 'model.backbone.drop_path_rate', 2, '[0, 1)'),
    (
        PRETRAIN,
        'model.backbone.arch',
        arch(feedforward_channels=0),
        '[1,',
    ),
    (PRETRAIN, f'{PIPELINE}.crop_ratio_range', (2, 3), '(0, 1]'),
    (PRETRAIN, 'model.target_generator.kernel_size', 99999, '224'),
    (PRETRAIN, 'model.target_generator.sigma', float('inf'), '(0,'),
    (PRETRAIN, 'train_dataloader.dataset.extensions', 'jpg', 'Sequence[str]'),
    (PRETRAIN, 'default_scope', 'mmpretrian', "'mmpretrain'"),
    # Errors that named something else.
    (PRETRAIN, 'model.backbone.arch', arch(num_heads=0), '[1,'),
    (PRETRAIN, f'{PIPELINE}.scale', 0, '(0,'),
    (PRETRAIN, 'train_dataloader.dataset.data_root', 3, 'str'),
    (PRETRAIN, 'load_from', '/nowhere', 'no such file'),
    (PRETRAIN, 'optim_wrapper.optimizer.betas', 0.9, 'tuple'),
    (CLASSIFY, 'model.train_cfg.augments.0.alpha', -1, '(0,'),
    (PRETRAIN, f'{PIPELINE}.aspect_ratio_range', (-1, 1), '(0,'),
    (PRETRAIN, 'model.backbone.out_indices', 'abc', 'int'),
    (PRETRAIN, 'model.backbone.img_size', 96, f'{PIPELINE}.scale=224'),
    # No end.
    (PRETRAIN, 'train_dataloader.num_workers', 100000, '[0,'),
    (
        PRETRAIN,
        'train_dataloader.sampler.type',
        'InfiniteSampler',
        'no epoch would end',
    ),
    (PRETRAIN, 'train_dataloader.sampler.infinite', True, 'no epoch'),
    # And what tells nobody.
    (PRETRAIN, 'model.order', 'rastr', "'raster'"),
    (PRETRAIN, 'runner_typ', 'SAIMRunner', "'runner_type'"),
    (PRETRAIN, 'train_pipeline', [], 'train_dataloader.dataset'),
    (PRETRAIN, 'max_epochs', 5, "'train_cfg.max_epochs'"),
    (PRETRAIN, 'lr', 1e-3, "'optim_wrapper.optimizer.lr'"),
    (PRETRAIN, 'batch_size', 4, "'train_dataloader.batch_size'"),
    (PRETRAIN, 'train_dataloader.num_workers', 0, 'persistent_workers'),
    (PRETRAIN, 'visualizer.vis_backends', {'a': 1}, 'list[dict]'),
    (PRETRAIN, 'model.neck', {'a': 1, '_delete_': True}, 'must have a type'),
    # What None, a word, a number or a dict stands for.
    (SEGMENT, 'model.data_preprocessor', None, 'must be given'),
    (SEGMENT, 'model.data_preprocessor.size', None, 'size_divisor'),
    (SEGMENT, 'model.test_cfg', None, 'needs one'),
    (SEGMENT, 'model.test_cfg.mode', 3, 'str'),
    (SEGMENT, 'model.decode_head.norm_cfg', 3, 'dict'),
    (SEGMENT, 'model.backbone.out_indices', [0, 1, 2, -3], 'order'),
    (SEGMENT, 'model.backbone.out_indices', [0, 1, 1, 3], 'order'),
    (DETECT, 'model.train_cfg.rpn', None, 'rpn_head'),
    (DETECT, 'model.roi_head.bbox_head', None, 'bbox_roi_extractor'),
    (DETECT, 'train_dataloader.dataset.ann_file', None, 'must be str'),
    (PRETRAIN, 'model.init_cfg', {'a': 1}, 'must have a type'),
    (PRETRAIN, 'param_scheduler', {'a': 1}, 'must have a type'),
    (PRETRAIN, 'model.prefix', 'nonesuch', '(0, 1)'),
    (PRETRAIN, 'data_preprocessor.std', [58.395, 0.0, 57.375], '(0,'),
    (CLASSIFY, 'model.train_cfg.augments', ['a'], 'dict'),
    (
        SEGMENT,
        'val_dataloader.dataset.metainfo',
        dict(classes='nonesuch'),
        'must be a list of names',
    ),
]


@pytest.mark.parametrize(
    'path, field, value',
    [
        (PRETRAIN, 'data_preprocessor.mean', [-500.0, 1353.7, 0.0]),
        (PRETRAIN, 'optim_wrapper.optimizer.lr', 0.0),
        (CLASSIFY, 'model.head.init_cfg.std', 0.0),
        (CLASSIFY, 'model.head.loss.loss_weight', 0.0),
        (CLASSIFY, 'train_cfg.val_interval', 10**9),
        (PRETRAIN, 'model.prefix', 0.5),
        (
            PRETRAIN,
            'model.teacher',
            {'type': 'MovingAverageTeacher', 'momentum': 1.0},
        ),
        (CLASSIFY, 'model.backbone.out_indices', [3, -1]),
        # What its class has as default, whatever is annotated.
        (DETECT, 'model.roi_head.bbox_head.reg_class_agnostic', False),
    ],
)
def test_what_is_unusual_and_works(path, field, value):
    """Numbers of other images than ImageNet's, and of ablations."""
    inspect_config(changed(path, **{field: value}))


@pytest.mark.parametrize('path, field, value, words', LITERAL)
def test_what_was_found(path, field, value, words):
    for folder, toolbox in (('detection', 'mmdet'), ('segmentation', 'mmseg')):
        if folder in path:
            pytest.importorskip(toolbox)
    cfg = changed(path, **{field: value})
    with pytest.raises(ConfigError) as error:
        check_config(cfg)
    message = str(error.value)
    first, *_, last = field.split('.')[:1] + field.split('.')
    assert first in message and last in message
    assert (
        repr(value) in message
        or repr(cfg[first]) in message
        or (isinstance(value, dict) and words in message)
    )
    assert words in message.split(':', 1)[1]


def test_a_variable_of_ones_own():
    check_config(changed(PRETRAIN, _resum=True))
    with pytest.raises(ConfigError, match='starts with an underscore'):
        check_config(changed(PRETRAIN, anything=True))


def test_the_check_can_be_left_out():
    wrong = changed(PRETRAIN, resum=True, check_config=False)
    check_config(wrong)
    wrong.check_config = 'no'
    with pytest.raises(ConfigError, match="check_config='no'"):
        check_config(wrong)


def test_a_fault_of_the_check_stops_no_training(monkeypatch):
    def fail(cfg):
        raise KeyError('of ours')

    monkeypatch.setattr(config, 'check_relations', fail)
    with pytest.warns(UserWarning, match='could not be checked: KeyError'):
        check_config(load(PRETRAIN))
    with pytest.raises(KeyError):
        inspect_config(load(PRETRAIN))


@pytest.mark.parametrize('script', [['train.py'], ['test.py', 'none.pth']])
def test_the_last_line_is_the_error(script, tmp_path):
    name, *checkpoint = script
    code, output = call(
        *(sys.executable, f'tools/{name}', FOLDER, *checkpoint),
        *('--work-dir', tmp_path, '--cfg-options', 'model.backbone.depht=3'),
    )
    assert code == 1
    assert 'Traceback' not in output
    last = output.splitlines()[-1]
    assert last.startswith('error: model.backbone.depht=3: there is no such')


def test_no_other_toolbox_is_imported(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(
        'import sys\n'
        'from mmengine.config import Config\n'
        'from saim_mm.engine.checks.config import inspect_config\n'
        # mmpretrain imports parts of mmdet.
        'def others():\n'
        "    return {m for m in sys.modules if m[:5] in ('mmdet', 'mmseg')}\n"
        'before = others()\n'
        f'inspect_config(Config.fromfile({PRETRAIN!r}))\n'
        'assert others() == before\n'
    )
    code, output = call(sys.executable, script)
    assert code == 0, output
