"""ConsoleHook: one live line instead of a log."""

from __future__ import annotations

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .deferred_info_hook import read_losses


@HOOKS.register_module()
class ConsoleHook(Hook):
    """Shows steps, loss, images per second and the time that is left.

    On a terminal it is one line that changes, whose loss is of the iteration
    before; elsewhere a line is printed for every tenth of the training.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        # Standard output belongs to what a script may want to read.
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            TextColumn('{task.completed}/{task.total} steps'),
            TextColumn('{task.fields[numbers]}'),
            TimeRemainingColumn(),
            console=self.console,
            disable=not (self.console.is_terminal and is_main_process()),
        )
        self.task = None

    def before_train(self, runner: Runner) -> None:
        self.total = runner.max_iters
        self.task = self.progress.add_task(
            'training', total=self.total, completed=runner.iter, numbers=''
        )
        self.progress.start()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        step = runner.iter + 1
        last = step == self.total
        prints = not self.console.is_terminal and is_main_process()
        prints &= last or step % max(1, self.total // 10) == 0
        if prints or last:
            read_losses(runner)
        logs = runner.message_hub.log_scalars
        numbers = '  '.join(
            text.format(logs[f'train/{name}'].mean(10))
            for name, text in (
                ('loss', 'loss {:.3f}'),
                ('images_per_second', '{:.0f} images/s'),
            )
            if f'train/{name}' in logs
        )
        self.progress.update(self.task, completed=step, numbers=numbers)
        if prints:
            self.console.print(f'step {step}/{self.total}  {numbers}')

    def after_run(self, runner: Runner) -> None:
        self.progress.stop()
