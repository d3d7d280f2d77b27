"""Hooks to watch training by: pictures, and how fast it is."""

from typing import Optional

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from .errors import check
from .order import PredictionOrder
from .reproducible import seeded
from .runner import unwrap
from .visualization import draw_reconstructions, figure_to_array


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Write reconstructions into the visualiser's backends.

    The images are the first of the run's first batch, and their order is one
    and the same all along; nothing random of the training is touched. Local
    files, TensorBoard and W&B take them as ``reconstruction``.

    Args:
        interval (int): Iterations between two pictures. Defaults to 1000.
        num_images (int): How many images at most. Defaults to 8.

    Raises:
        ValueError: If an argument is not positive, or the model is none of
            pre-training.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 1000, num_images: int = 8) -> None:
        for name, value in dict(
            interval=interval, num_images=num_images
        ).items():
            check(
                isinstance(value, int) and value > 0,
                f'ReconstructionHook.{name}',
                value,
                'a positive integer',
            )
        self.interval = interval
        self.num_images = num_images
        self.images = None

    def before_train(self, runner: Runner) -> None:
        """Refuse a model that predicts no patches.

        Args:
            runner (Runner): The runner.
        """
        check(
            hasattr(unwrap(runner.model), 'predict_patches'),
            'custom_hooks',
            'ReconstructionHook',
            'left out of what is no pre-training: the model has no decoder',
        )

    @master_only
    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Draw, if it is time.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Number of the batch.
            data_batch (dict): From the loader: ``inputs``, uint8, BGR.
            outputs (dict): Not used.
        """
        if self.images is None:
            inputs = list(data_batch['inputs'][: self.num_images])
            self.images = torch.stack(inputs).flip(1).float()  # RGB
        if not self.every_n_train_iters(runner, self.interval):
            return
        model = unwrap(runner.model)
        device = next(model.parameters()).device
        with seeded((0,)):
            order = model.draw_order(self.images)
        order = PredictionOrder(order.indices.to(device), order.parallel)
        training = model.training
        model.eval()
        figure = draw_reconstructions(model, self.images, [order])
        model.train(training)
        runner.visualizer.add_image(
            'reconstruction', figure_to_array(figure), step=runner.iter + 1
        )


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Logs how fast training is, beside MMEngine's ``time``.

    ``images_per_second`` are those of all processes, ``utilisation`` the share
    of the time in which this one did not wait for its data; both over as many
    iterations as the log's means. (Of these two the log takes the last value:
    it averages losses and times only.) Without ``IterTimerHook`` there are
    none.
    """

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Log both.

        Args:
            runner (Runner): The runner; its ``timer`` has gone before.
            batch_idx (int): Not used.
            data_batch (dict): From the loader: ``data_samples``, one for an
                image. (``inputs`` may be views, of each image several.)
            outputs (dict): Not used.
        """
        hub = runner.message_hub
        if not {'train/time', 'train/data_time'} <= hub.log_scalars.keys():
            return
        seconds, waiting = (
            hub.get_scalar(f'train/{name}').mean(
                runner.log_processor.window_size
            )
            for name in ('time', 'data_time')
        )
        images = len(data_batch['data_samples']) * runner.world_size
        hub.update_scalar('train/images_per_second', images / seconds)
        hub.update_scalar('train/utilisation', 1 - waiting / seconds)
