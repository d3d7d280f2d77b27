"""ZeRO: DeepSpeed trains, by MMEngine's strategy for it."""

from functools import partial
from pathlib import Path
from typing import Union

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import EpochBasedTrainLoop
from mmengine.runner._flexible_runner import FlexibleRunner

from .checkpoint import finish, load_from_local, part_of, remove, writing
from .dependencies import require
from .errors import check, together
from .runner import SAIMRunner, check_machine, shared_checkpoints
from .schedule import batch_size_of
from .settings import check_settings


@RUNNERS.register_module()
class DeepSpeedRunner(FlexibleRunner):
    """MMEngine's FlexibleRunner, for ``strategy.type='DeepSpeedStrategy'``.

    What :class:`SAIMRunner` promises holds here too, as far as DeepSpeed
    allows: settings and machine are looked at first, checkpoints are whole
    and loaded without executing them, ``--resume`` takes the newest of them.
    (Of a loss that is not finite the step is made before it is seen.)
    """

    # Loading processes leave signals to this one.
    build_dataloader = staticmethod(SAIMRunner.build_dataloader)

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'DeepSpeedRunner':
        """Build a runner from a config.

        Args:
            cfg (Config): The config.

        Returns:
            DeepSpeedRunner: The runner.

        Raises:
            ImportError: If DeepSpeed is not installed.
            ValueError: As :meth:`SAIMRunner.from_cfg`; or if the stage of
                ZeRO is neither 1 nor 2, or the config asks for ``fsdp``.
        """
        require('deepspeed', needed_by='DeepSpeedStrategy')
        check_settings(cfg)
        check(
            not cfg.get('fsdp'),
            'fsdp',
            cfg.get('fsdp'),
            "False with runner_type='DeepSpeedRunner', which shares out by "
            "strategy.zero_optimization; or train with 'SAIMRunner'",
        )
        stage = cfg.strategy.get('zero_optimization', {}).get('stage')
        check(
            stage in (1, 2),
            'strategy.zero_optimization.stage',
            stage,
            '1 or 2; to share out the weights as well, train with '
            "runner_type='SAIMRunner' and fsdp=True",
        )
        check_machine(cfg)
        return super().from_cfg(cfg)

    def save_checkpoint(
        self, out_dir: str, filename: str, *args, **kwargs
    ) -> None:
        """Save a checkpoint, a folder, whole or not at all.

        Args:
            out_dir (str): The folder it is in.
            filename (str): Its name.
            *args: As for MMEngine's.
            **kwargs: As for MMEngine's.

        Raises:
            OSError: In all processes, if it cannot be written.
        """
        path = Path(out_dir, filename)
        part = part_of(path)
        save = partial(
            super().save_checkpoint, out_dir, part.name, *args, **kwargs
        )
        with writing(path):
            together(partial(remove, part), main_only=True)  # if one is left
            together(save)
            together(partial(finish, path), main_only=True)

    def load_or_resume(self) -> None:
        """Load or resume, from the last checkpoint."""
        engine = self.model.model
        engine.checkpoint_engine.load = load_part
        # DeepSpeed 0.18 forgets it, which gloo notices.
        engine.step = torch.no_grad()(engine.step)
        if self._resume and self._load_from is None:
            found = shared_checkpoints(self.work_dir)
            self._resume = str(found[0]) if found else False
        super().load_or_resume()

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Resume, also in the middle of an epoch.

        Args:
            filename (str): The checkpoint.
            *args: As for MMEngine's.
            **kwargs: As for MMEngine's.
        """
        super().resume(filename, *args, **kwargs)
        loader = self.train_dataloader
        if isinstance(self.train_loop, EpochBasedTrainLoop):
            batches = self.iter - self.epoch * len(loader)
            if batches and hasattr(loader.sampler, 'skip'):
                done = batches * batch_size_of(loader)
                loader.sampler.skip(done)
                self.left_out = (self.epoch, done * self.world_size)


def load_part(path: Union[str, Path], map_location=None) -> dict:
    """Load a file of a DeepSpeed checkpoint; nothing in it is executed.

    Args:
        path (str | Path): The file.
        map_location: As for :func:`torch.load`. Defaults to None.

    Returns:
        dict: What DeepSpeed saved.

    Raises:
        ValueError: As :func:`~saim_mm.checkpoint.load_from_local`.
    """
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    with torch.serialization.safe_globals(
        [LossScaler, ZeroStageEnum, fragment_address]
    ):
        return load_from_local(path, map_location)
