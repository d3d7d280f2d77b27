"""TeacherHook: the moving average of the encoder."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from ...models.teachers import MovingAverageTeacher
from ...utils.dist import unwrap_model


@HOOKS.register_module()
class TeacherHook(Hook):
    """Updates a model's :class:`MovingAverageTeacher` after every step.

    Not after iterations whose gradients are only accumulated.
    """

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        model = unwrap_model(runner.model)
        teacher = getattr(model, 'teacher', None)
        if (
            isinstance(teacher, MovingAverageTeacher)
            and runner.optim_wrapper.should_update()
        ):
            progress = (runner.iter + 1) / runner.max_iters
            teacher.update(model.backbone, progress)
