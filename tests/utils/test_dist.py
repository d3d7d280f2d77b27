"""What happens to one process happens to all."""

import os

import pytest
import torch
from helpers import config, in_two, sharded, train
from mmengine.logging import MMLogger

from saim_mm.engine.resume import newest_whole
from saim_mm.utils.dist import run_or_raise_on_all


def raises_in_all(rank, folder):
    def fail():
        if rank == 0:
            raise OSError(28, 'No space left on device')

    for main_only in (False, True):
        with pytest.raises(OSError, match='No space left') as caught:
            run_or_raise_on_all(fail, main_only)
        assert ('process 0' in str(caught.value)) == (rank == 1)
    run_or_raise_on_all(lambda: None)


def test_an_error(tmp_path):
    in_two(raises_in_all, tmp_path)


def loads(rank, folder):
    """The newer one of two is broken; and faults of one process."""
    # No shared folder: what process 0 has counts.
    own = folder / str(rank)
    own.mkdir()
    logger = MMLogger('loads')
    for number in range(2 + rank):
        (own / f'iter_{number}.pth').write_text('broken' * (number == 1))
        os.utime(own / f'iter_{number}.pth', (number, number))

    def load(path):
        with open(path) as file:
            if file.read():
                raise ValueError(f'broken, says {rank}')

    assert newest_whole(own, load, logger) == f'{folder}/0/iter_0.pth'
    assert newest_whole(folder, load, logger) is None

    # What process 0 has is not there, or nobody can read it for one reason.
    def elsewhere(path):
        load(path.replace('/0/', f'/{rank * 9}/'))

    if rank == 0:
        (own / 'iter_1.pth').unlink()
    with pytest.raises(OSError, match=r'processes \[1\] of 2 .* must be a'):
        newest_whole(own, elsewhere, logger)
    if rank == 0:
        (own / 'iter_0.pth').write_text('broken')
    with pytest.raises(OSError, match=r'processes \[0, 1\] of 2 .* must be'):
        newest_whole(own, elsewhere, logger)


def test_they_resume_from_one(tmp_path):
    in_two(loads, tmp_path)


def saves(rank, folder, cfg):
    """Process 0 cannot write the second checkpoint, or its rest.pth."""

    def full(checkpoint, path, **kwargs):
        torch.save(checkpoint, path)
        if 'iter_2' in path:
            raise OSError(28, 'No space left on device')

    cfg.launcher = 'pytorch'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.runner.runner.save_checkpoint', full)
        with pytest.raises(OSError, match='iter_2.pth: not written .*space'):
            train(cfg)


@pytest.mark.parametrize('fsdp', [False, True])
def test_a_full_disk(forty_images, tmp_path, fsdp):  # noqa: F811
    cfg = sharded(forty_images, tmp_path / 'run', iters=3)
    cfg.fsdp = fsdp
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    in_two(saves, tmp_path, cfg)
    first = tmp_path / 'run/iter_1.pth'
    assert (first / 'rest.pth' if fsdp else first).is_file()
    assert not list((tmp_path / 'run').glob('iter_2*'))


def resumes_another_model(rank, folder, cfg):
    cfg.launcher = 'pytorch'
    train(cfg)
    cfg.model.neck.depth = 2
    # MMEngine tells the main process alone, and the other would wait for it.
    kind = OSError if rank else ValueError
    with pytest.raises(kind, match='do not match'):
        train(cfg, resume=True)


def test_of_another_model(forty_images, tmp_path):  # noqa: F811
    cfg = config(forty_images, tmp_path / 'run', iters=1)
    in_two(resumes_another_model, tmp_path, cfg)
