"""saim compare: what it says of results, and a whole small one."""

import json
import shutil
import sys

import numpy as np
import pytest
from helpers import bright_and_dark, call
from scipy import stats

from saim_mm.datasets.folders import choose_fraction
from saim_mm.engine import compare as comparing
from saim_mm.engine import recipes
from saim_mm.engine.compare import compare, logged_accuracy
from saim_mm.engine.run import CONFIG
from saim_mm.evaluation.comparison import (
    SAIM,
    SCRATCH,
    conclude,
    interval,
    summarize,
)


@pytest.mark.parametrize('number', [2, 3, 11, 12, 30])
def test_interval_is_scipys(number):
    values = np.random.default_rng(0).normal(70, 3, number)
    mean, half = interval(values)
    low, high = stats.t.interval(
        0.95, number - 1, values.mean(), stats.sem(values)
    )
    assert mean - half == pytest.approx(low, abs=0.02)
    assert mean + half == pytest.approx(high, abs=0.02)
    assert np.isnan(interval(values[:1])[1])


def results(ours, theirs, pixels=(10, 10, 10)):
    return {
        f'{SAIM}, fine-tuned': {0.1: ours},
        f'{SCRATCH}, fine-tuned': {0.1: theirs},
        'raw pixels, linear': {0.1: list(pixels)},
    }


@pytest.mark.parametrize(
    ('ours', 'verdict'),
    [
        ([71, 72, 73], 'it helped (+2.0 ± 0.0 points)'),
        ([66, 68, 69], 'it did harm (-2.3 ± 1.4 points)'),
        # The means differ by as much as above, but not seed by seed.
        ([77, 68, 71], 'not decided (+2.0 ± 13.1 points)'),
        ([71], 'one seed decides nothing (+2.0 points)'),
    ],
)
def test_conclusion(ours, verdict):
    found = conclude(results(ours, [69, 70, 71][: len(ours)]), [0.1])
    assert f'with 10% of the labels {verdict}' in found


def test_a_baseline_that_wins_is_said(tmp_path):
    found = summarize(results([71, 72], [69, 70], [80, 80]), tmp_path)
    assert 'better than raw pixels, linear' in found.conclusion
    assert found.table.splitlines()[2].startswith('| raw pixels, linear |')
    assert found.table in (tmp_path / 'compare.md').read_text()


@pytest.mark.parametrize('seed', [0, 1])
def test_fractions(seed):
    lines = [f'{number} {number % 3}' for number in range(90)]
    smaller = choose_fraction(lines, 0.1, seed)
    larger = choose_fraction(lines, 0.5, seed)
    assert set(smaller) < set(larger) < set(range(90))
    assert [sum(x % 3 == c for x in smaller) for c in range(3)] == [3] * 3
    assert smaller != choose_fraction(lines, 0.1, seed + 2)
    assert choose_fraction(lines, 1, seed) == list(range(90))
    assert len(choose_fraction(lines, 1e-3, seed)) == 3
    with pytest.raises(
        ValueError, match='fraction=0: must be a share, more than 0'
    ):
        choose_fraction(lines, 0)


@pytest.fixture(scope='module')
def classes(tmp_path_factory):
    return bright_and_dark(tmp_path_factory.mktemp('compare'), 10, 20, 20)


OPTIONS = {
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
}
SHORT = dict(
    seeds=2, fractions=[0.5], epochs=1, pretrain_epochs=1, options=OPTIONS
)


def test_the_whole(classes, tmp_path):
    said = []
    found = compare(classes, tmp_path, say=said.append, **SHORT)
    assert set(found.accuracy) == {
        *(f'{x}, fine-tuned' for x in (SAIM, SCRATCH)),
        f'{SAIM}, frozen, linear',
        'random weights, frozen, linear',
        'raw pixels, linear',
    }
    assert found.accuracy['raw pixels, linear'] == {0.5: [100, 100]}
    assert all(len(x[0.5]) == 2 for x in found.accuracy.values())
    assert (tmp_path / 'compare.png').stat().st_size > 10_000
    # Nothing of the validation part was pre-trained on.
    listed = (tmp_path / 'images.txt').read_text().splitlines()
    val = (tmp_path / f'frozen/{SAIM}/val.txt').read_text().splitlines()
    assert len(listed) == 16
    assert not set(listed) & {x.split()[0] for x in val}
    # The two trainings of a seed have the same labels and differ in the start.
    for seed in range(2):
        folders = [
            tmp_path / f'finetune/{name}-0.5-{seed}'
            for name in (SAIM, SCRATCH)
        ]
        lists = [(x / 'train.txt').read_text() for x in folders]
        assert lists[0] == lists[1] and len(lists[0].splitlines()) == 8
        configs = [(x / CONFIG).read_text() for x in folders]
        assert 'Pretrained' in configs[0] and 'Pretrained' not in configs[1]
        assert not list(folders[0].glob('*.pth'))

    # The same again trains nothing, and says the same.
    written = (tmp_path / 'results.json').stat().st_mtime_ns
    again = compare(classes, tmp_path, say=said.append, **SHORT)
    assert again == found
    assert (tmp_path / 'results.json').stat().st_mtime_ns == written
    # One result less: that one alone is found again, equal.
    known = json.loads((tmp_path / 'results.json').read_text())
    [lost] = [
        row
        for row in known['results']
        if row[:3] == [f'{SCRATCH}, fine-tuned', 0.5, 1]
    ]
    known['results'].remove(lost)
    (tmp_path / 'results.json').write_text(json.dumps(known))
    shutil.rmtree(tmp_path / f'finetune/{SCRATCH}-0.5-1')
    again = compare(classes, tmp_path, say=said.append, **SHORT)
    assert again == found
    # Fewer of what is there: nothing of the others is counted.
    fewer = compare(classes, tmp_path, **{**SHORT, 'seeds': 1})
    assert all(len(x[0.5]) == 1 for x in fewer.accuracy.values())
    # Nothing follows from how images are loaded.
    options = {**OPTIONS, 'train_dataloader.num_workers': 1}
    given = {**SHORT, 'seeds': 1, 'options': options}
    assert compare(classes, tmp_path, say=said.append, **given) == fewer
    # A further start; the same weights, so the same classifiers.
    given = {**SHORT, 'seeds': 1, 'init': [tmp_path / 'pretrain']}
    more = compare(classes, tmp_path, say=said.append, **given).accuracy
    assert set(more) - set(fewer.accuracy) == {
        'pretrain, fine-tuned',
        'pretrain, frozen, linear',
    }
    for what in ('fine-tuned', 'frozen, linear'):
        assert more[f'pretrain, {what}'] == more[f'{SAIM}, {what}']
    for changed, message in (
        (dict(epochs=2), 'other settings .epochs=1, now 2'),
        (
            dict(options={**OPTIONS, 'optim_wrapper.optimizer.lr': 1e-5}),
            "out='.*other settings",
        ),
        (dict(init=['saim_mm://nosuch']), 'has no weights of that name'),
        (dict(init=[classes.parent / 'no']), 'no such file or folder'),
        (dict(arch='192x4'), "other settings .*now 'saim-192x4'"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            compare(classes, tmp_path, **{**SHORT, **changed})


def test_the_accuracy_after_the_last_epoch_counts(tmp_path):
    """Not that of an epoch before, if it was killed in the last test."""
    folder = tmp_path / '20260101_000000/vis_data'
    folder.mkdir(parents=True)
    rows = [
        {'loss': 1.0, 'step': 10},
        {'accuracy/top1': 50.0, 'step': 9},
    ]
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)))
    assert logged_accuracy(tmp_path, 10) is None
    assert logged_accuracy(tmp_path, 9) == 50


def test_from_scratch_is_not_handicapped(classes, tmp_path, monkeypatch):
    """Of 12 blocks the lowest would learn at 0.65 ** 12 of the rate."""
    monkeypatch.setattr(recipes, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(recipes, 'gpu_has_bfloat16', lambda: True)
    cfg, _ = recipes.finetune_config(classes, tmp_path)
    assert cfg.model.backbone.arch == 'deit-tiny'
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 1
    # Sized by the images that are trained on.
    _, line = recipes.pretrain_config(
        classes, tmp_path / 'a', images=[f'{x}.png' for x in range(8)]
    )
    assert line.startswith('8 images') and 'steps of 2 images' in line


def test_what_is_refused(classes, tmp_path):
    twins = tmp_path / 'twins'
    for path in classes.glob('*/*'):
        (twins / path.parent.name).mkdir(parents=True, exist_ok=True)
        (twins / path.parent.name / path.name).symlink_to(path)
    # Of each five the second is for validation: 01.
    (twins / 'dark/02b.png').symlink_to(classes / 'dark/01.png')
    with pytest.raises(
        ValueError, match='no image stands in both parts.*dark/02b.png and'
    ):
        compare(twins, tmp_path / 'out', **SHORT)
    for changed, message in (
        (dict(seeds=0), 'seeds=0: must be'),
        (dict(fractions=[2]), 'fraction=2: must be'),
        (dict(fractions=[]), 'fractions=.*: must be one at least'),
        (dict(epochs=0), 'epochs=0: must be a positive integer'),
        (dict(init=['a/x', 'b/x']), 'init=.*: must be folders of different'),
        (dict(init=['a/x']), "init='a/x': no such file"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            compare(classes, tmp_path / 'out', **{**SHORT, **changed})
    assert not (tmp_path / 'out').exists()
    with pytest.raises(ValueError, match='out=.*: must be outside of'):
        compare(classes, classes / 'out', **SHORT)
    with pytest.raises(ValueError, match='no such field'):
        options = {**OPTIONS, 'model.segment_size': 2}
        compare(classes, tmp_path / 'out', **{**SHORT, 'options': options})
    # Before it has begun, and nothing is left to refuse the next.
    assert not any(path.is_file() for path in (tmp_path / 'out').rglob('*'))


def test_a_comparison_that_has_not_begun(classes, tmp_path, monkeypatch):
    """Stopped before its first step it leaves no list of images."""

    def stop(cfg):
        assert (tmp_path / 'out/images.txt').is_file()
        raise KeyboardInterrupt

    monkeypatch.setattr(comparing, 'run', stop)
    with pytest.raises(KeyboardInterrupt):
        compare(classes, tmp_path / 'out', **SHORT)
    assert not (tmp_path / 'out/images.txt').exists()


def test_command(classes, tmp_path):
    command = (sys.executable, '-m', 'saim_mm.cli', 'compare', classes)
    command += ('--out', 'out', '--pretrain-epochs', 1, '--epochs', 1)
    options = [f'{key}={value}' for key, value in OPTIONS.items()]
    code, output = call(
        *(*command, '--seeds', 1, '--fraction', 1, *options), folder=tmp_path
    )
    assert code == 0, output
    assert '2 of 2: SAIM on these images, 100% of the labels' in output
    assert '| top-1, % | 100% of the labels |' in output
    assert 'one seed decides nothing' in output
    last = output.strip().splitlines()[-1]
    assert last.startswith('next: saim finetune')
    code, output = call(*command, '--seeds', 0, folder=tmp_path)
    assert code == 1
    assert output.strip().splitlines()[-1] == (
        'error: seeds=0: must be a positive integer'
    )
