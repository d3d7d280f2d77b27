"""ReconstructionHook: pictures to watch training by."""

from __future__ import annotations

import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...datasets.pixels import pixel_format
from ...models.target import pixel_target
from ...utils.check import check_arg, check_positive_int
from ...utils.dist import unwrap_model


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Write reconstructions into the visualiser's backends.

    The images are the first of the run's first batch, and their order is one
    and the same all along; nothing random of the training is touched. Local
    files, TensorBoard and W&B take them as ``reconstruction``.

    Args:
        interval: Iterations between two pictures.
        num_images: How many images at most.

    Raises:
        ValueError: If an argument is not positive, or the model is none of
            pre-training.
    """

    priority = 'LOW'

    def __init__(self, interval: int = 1000, num_images: int = 8) -> None:
        for name, value in dict(
            interval=interval, num_images=num_images
        ).items():
            check_positive_int(f'ReconstructionHook.{name}', value)
        self.interval = interval
        self.num_images = num_images
        self.images = None

    def before_train(self, runner: Runner) -> None:
        """Refuse a model that predicts no pixels."""
        check_arg(
            hasattr(unwrap_model(runner.model), 'predict_patches'),
            'custom_hooks',
            'ReconstructionHook',
            'left out of what is no pre-training: the model has no decoder',
        )
        pixel_target(unwrap_model(runner.model))
        self.pixels = pixel_format(runner.cfg)

    @master_only
    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Draw, if it is time. (``inputs`` are BGR, if they are RGB.)"""
        if self.images is None:
            inputs = list(data_batch['inputs'][: self.num_images])
            self.images = torch.stack(inputs).float()
            if self.pixels.plain:
                self.images = self.images.flip(1)
        if not self.every_n_train_iters(runner, self.interval):
            return
        # matplotlib is loaded when there is something to draw.
        from ...visualization.figures import figure_to_array
        from ...visualization.reconstruction import (
            draw_reconstructions,
            normalize,
        )

        model = unwrap_model(runner.model)
        inputs = normalize(model, self.images)
        generator = torch.Generator().manual_seed(0)
        training = model.training
        model.eval()
        order = model.sample_order(inputs, generator=generator)
        figure = draw_reconstructions(
            model, self.images, [order], pixels=self.pixels
        )
        model.train(training)
        runner.visualizer.add_image(
            'reconstruction', figure_to_array(figure), step=runner.iter + 1
        )
