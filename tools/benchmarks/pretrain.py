"""Time pre-training steps beside the literal masked form of the method.

    python tools/benchmarks/pretrain.py [--arch deit-small] [--img-size 224]
        [--patch-size 16] [--batch-size 8] [--dtype bfloat16] [--steps 7]
        [--device cuda] [--no-compile] [--sweep] [--out FOLDER]

Printed is a table with a row for each model and precision, of one and the same
training step (forward, backward, AdamW) in three forms:

- `literal`: the authors' two streams over all patches and the class token,
  with added float masks, plain attention and PyTorch's AdamW as it is;
- `saim_mm`: what this package does;
- `compiled`: the same with compile=True (not with --no-compile).

All forms share model, images and orders, and take turns in one process; the
learning rate is 0, so that they keep computing the same loss. A figure is a
median, a ratio the median of ratios within a turn. `products` is the share of
the time of saim_mm's step that its matrix products need alone, with nothing
between them: 100 % is the limit of this machine. Peak memory counts weights,
gradients, optimiser state and all that the step keeps.

Without --arch: on a GPU ViT-B/16, 256 images; on a CPU ViT-S/16, 8 images, and
the miniature of tools/study (`saim-mini`, 32 pixels, patches of 4, 128
images), in float32 and bfloat16.

--sweep: instead, one model over image sizes and batch sizes, also as curves in
sweep.png in FOLDER.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import reference
import torch
from common import describe, quiet, save
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS
from torch.profiler import ProfilerActivity, profile

import saim_mm
from saim_mm.engine.checks.device import keep_freed_memory
from saim_mm.models.layers import compile_blocks

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / (
    'configs/pretrain/saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
)
FORMS = ('literal', 'saim_mm', 'compiled')
HEADINGS = (
    *('model', 'pixels', 'batch', 'precision'),
    *('literal, images/s', 'saim_mm', 'ratio', 'compiled', 'ratio'),
    *('products', 'peak GiB: literal', 'saim_mm'),
)


@dataclass
class Setting:
    """A model, its images and the precision."""

    arch: str
    img_size: int
    patch_size: int
    batch_size: int
    dtype: str

    @property
    def name(self) -> str:
        return f'{self.arch}/{self.patch_size}'


class Bench:
    """A model, a batch, and the step in each form."""

    def __init__(self, setting: Setting, device: str) -> None:
        torch._dynamo.reset()  # of the setting before
        torch.manual_seed(0)
        self.setting = setting
        self.dtype = getattr(torch, setting.dtype)
        self.device = torch.device(device)
        cfg = Config.fromfile(CONFIG)
        cfg.model.backbone.update(
            arch=setting.arch,
            img_size=setting.img_size,
            patch_size=setting.patch_size,
        )
        model = MODELS.build(cfg.model)
        model.init_weights()
        self.model = model.to(self.device).train()
        size = setting.img_size
        self.images = torch.randn(setting.batch_size, 3, size, size).to(device)
        rows, columns = model.backbone.patch_resolution
        self.noise = torch.rand(
            setting.batch_size, rows * columns, device=device
        )
        self.order = saim_mm.PredictionOrder.from_noise(self.noise)
        cfg.optim_wrapper.type = 'OptimWrapper'
        cfg.optim_wrapper.optimizer.lr = 0.0
        ours = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
        plain = torch.optim.AdamW(model.parameters(), lr=0.0)
        self.optimizers = dict(literal=plain, saim_mm=ours, compiled=ours)
        # Other modules with the same weights: compiling changes a module.
        weights = (*model.parameters(), *model.buffers())
        self.compiled = copy.deepcopy(model, {id(w): w for w in weights})
        compile_blocks(self.compiled)

    def loss(self, form: str) -> torch.Tensor:
        if form == 'compiled':
            return self.compiled.compute_loss(self.images, self.order)
        if form == 'saim_mm':
            return self.model.compute_loss(self.images, self.order)
        backbone = self.model.backbone
        return reference.pretrain(
            dict(self.model.named_parameters()),
            self.images,
            self.noise,
            patch_size=backbone.patch_size,
            num_layers=backbone.num_layers,
            num_heads=backbone.arch_settings['num_heads'],
        )[1]

    def step(self, form: str) -> tuple[float, float]:
        """One training step: its loss and its seconds."""
        start = time.perf_counter()
        with torch.autocast(
            self.device.type, self.dtype, enabled=self.dtype != torch.float32
        ):
            loss = self.loss(form)
        loss.backward()
        self.optimizers[form].step()
        loss = loss.item()
        if self.device.type == 'cuda':
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        self.model.zero_grad(set_to_none=True)
        return loss, seconds

    def peak(self, form: str) -> float:
        """Peak memory of a step in GiB."""
        cuda = self.device.type == 'cuda'
        if cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self.step(form)
            peak = torch.cuda.max_memory_allocated() - before
        else:
            with profile(
                activities=[ProfilerActivity.CPU], profile_memory=True
            ) as log:
                self.step(form)
            alive = peak = 0
            for event in log.profiler.kineto_results.events():
                if event.name() == '[memory]':
                    alive += event.nbytes()
                    peak = max(peak, alive)
        state = self.optimizers[form].state_dict()['state']
        resident = [*self.model.parameters(), *self.model.buffers()]
        resident += [v for s in state.values() for v in s.values()]
        peak += sum(t.numel() * t.element_size() for t in resident)
        return peak / 2**30

    def products(self) -> float:
        """Seconds of a step's matrix products with nothing between them.

        Those of the linear layers are measured, forward and both of backward;
        attention's, of which the masks leave a half, are put at their rate.
        """
        arch, length = self.model.backbone.arch_settings, self.noise.shape[1]
        width, hidden = arch['embed_dims'], arch['feedforward_channels']
        pixels = self.setting.patch_size**2 * 3
        blocks = arch['num_layers'] + self.model.neck.depth
        shapes = [
            *((width, n, blocks) for n in (3 * width, width, hidden)),
            *((hidden, width, blocks), (width, 4 * width, 1)),
            *((4 * width, pixels, 1), (pixels, width, 2 / 3)),
        ]
        rows = self.noise.numel()
        seconds = flops = 0
        for k, n, count in shapes:
            for shape in ((rows, k, n), (rows, n, k), (k, rows, n)):
                seconds += count * self.product(*shape)
                flops += count * 2 * rows * k * n
        attention = 6 * rows * blocks * length * width
        return seconds * (1 + attention / flops)

    def product(self, m: int, k: int, n: int) -> float:
        """Median seconds of a product (m, k) by (k, n)."""
        a = torch.randn(m, k, device=self.device, dtype=self.dtype)
        b = torch.randn(k, n, device=self.device, dtype=self.dtype)
        seconds = []
        for _ in range(6):
            start = time.perf_counter()
            a @ b
            if self.device.type == 'cuda':
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds[1:])


def measure(bench: Bench, forms: list[str], steps: int) -> dict[str, float]:
    """Take turns; a row of figures by name, without forms that do not fit."""
    seconds = {form: [] for form in forms}
    losses = {}
    for turn in range(steps + 2):
        for form in list(seconds):
            try:
                losses[form], taken = bench.step(form)
            except torch.cuda.OutOfMemoryError:
                bench.model.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                del seconds[form]
                continue
            if turn > 1:  # the first two warm up, and compile
                seconds[form].append(taken)
    # A look at whether all did the same.
    tolerance = 1e-4 if bench.dtype == torch.float32 else 1e-2
    assert max(losses.values()) - min(losses.values()) < tolerance, losses
    figures = {}
    for form, turns in seconds.items():
        figures[form] = bench.setting.batch_size / statistics.median(turns)
        if 'literal' in seconds:
            figures[f'{form} ratio'] = statistics.median(
                a / b for a, b in zip(seconds['literal'], turns)
            )
        if form != 'compiled':
            figures[f'{form} peak'] = bench.peak(form)
    if 'saim_mm' in seconds:
        step = statistics.median(seconds['saim_mm'])
        figures['products'] = bench.products() / step
    return figures


def line(setting: Setting, figures: dict[str, float]) -> str:
    """A row of the table."""

    def cell(name: str, form: str) -> str:
        return format(figures[name], form) if name in figures else ''

    cells = [setting.name, setting.img_size, setting.batch_size]
    cells += [setting.dtype, cell('literal', '.4g')]
    for form in FORMS[1:]:
        cells += [cell(form, '.4g'), cell(f'{form} ratio', '.2f')]
    cells.append(cell('products', '.0%'))
    cells += [cell(f'{form} peak', '.2f') for form in FORMS[:2]]
    return f'| {" | ".join(map(str, cells))} |'


def draw(rows: list[tuple[Setting, dict]], base: Setting, path: Path) -> None:
    """Curves of a sweep."""
    figure = Figure(figsize=(9, 6))
    axes = figure.subplots(2, 2, sharex='col')
    for column, (field, other) in enumerate(
        (('img_size', 'batch_size'), ('batch_size', 'img_size'))
    ):
        same = [
            (setting, figures)
            for setting, figures in rows
            if getattr(setting, other) == getattr(base, other)
        ]
        same.sort(key=lambda row: getattr(row[0], field))
        for form in FORMS[:2]:
            for axis, name in zip(axes[:, column], (form, f'{form} peak')):
                points = [
                    (getattr(setting, field), figures[name])
                    for setting, figures in same
                    if name in figures
                ]
                axis.loglog(*zip(*points or [((), ())]), 'o-', label=form)
        axes[1, column].set_xlabel(f'{field} ({other} {getattr(base, other)})')
    for axis, label in zip(axes[:, 0], ('images/s', 'peak memory, GiB')):
        axis.set_ylabel(label)
    axes[0, 0].legend()
    figure.suptitle(f'{base.name}, {base.dtype}')
    save(figure, path)


def choose(args: argparse.Namespace) -> list[Setting]:
    """The settings that are measured; of a sweep the base is the first."""
    cuda = args.device == 'cuda'
    if args.arch or args.sweep:
        dtype = args.dtype or 'bfloat16'
        batch = args.batch_size or (256 if cuda else 8)
        arch = args.arch or ('base' if cuda else 'deit-small')
        base = Setting(arch, args.img_size, args.patch_size, batch, dtype)
        if not args.sweep:
            return [base]
        base = replace(base, batch_size=max(1, batch // 16))
        sizes = [base.img_size * factor for factor in (2, 4)]
        batches = sorted({max(1, batch // 4), batch} - {base.batch_size})
        return [
            base,
            *(replace(base, img_size=size) for size in sizes),
            *(replace(base, batch_size=number) for number in batches),
        ]
    models = (
        [('base', 224, 16, 256)]
        if cuda
        else [('deit-small', 224, 16, 8), ('saim-mini', 32, 4, 128)]
    )
    dtypes = [args.dtype] if args.dtype else ['float32', 'bfloat16']
    return [
        Setting(*model[:3], args.batch_size or model[3], dtype)
        for model in models
        for dtype in dtypes
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--arch')
    parser.add_argument('--img-size', type=int, default=224)
    parser.add_argument('--patch-size', type=int, default=16)
    parser.add_argument('--batch-size', type=int)
    parser.add_argument('--dtype', choices=['float32', 'bfloat16'])
    parser.add_argument('--steps', type=int, default=7)
    parser.add_argument('--device', default=get_device())
    parser.add_argument('--no-compile', dest='compile', action='store_false')
    parser.add_argument('--sweep', action='store_true')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/bench'))
    args = parser.parse_args()
    quiet()
    if args.device == 'cpu':
        keep_freed_memory()  # as in training; the literal form gains as well
    forms = list(FORMS if args.compile and not args.sweep else FORMS[:2])
    print(f'{describe(args.device)}, medians of {args.steps} turns\n')
    print(f'| {" | ".join(HEADINGS)} |\n{"| --- " * len(HEADINGS)}|')
    rows = []
    settings = choose(args)
    for setting in settings:
        figures = measure(Bench(setting, args.device), forms, args.steps)
        print(line(setting, figures), flush=True)
        rows.append((setting, figures))
    if args.sweep:
        draw(rows, settings[0], args.out / 'sweep.png')


if __name__ == '__main__':
    main()
