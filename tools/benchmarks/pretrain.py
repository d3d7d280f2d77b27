"""Time pre-training steps beside the literal masked form of the method.

    python tools/benchmarks/pretrain.py [--arch base] [--img-size 224]
        [--batch-size 8] [--dtype bfloat16] [--steps 5] [--device cuda]
        [--no-compile] [--sweep] [--out FOLDER]

Printed is a table of forms of one and the same training step:

- `literal`: the authors' two streams over all patches and the class token,
  with added float masks and eager attention, under autocast, with AdamW;
- `plain`: this package without any of the optimisations: attention that is not
  fused, MMEngine's AdamW with a group for each parameter;
- each optimisation on top of those before it (`+ ...`);
- all but torch.compile (`eager`) with activation checkpointing, and in
  float32.

All forms share one model, images and orders, and take turns in one process;
the learning rate is 0, so that they keep computing the same loss. A figure is
a median, a ratio the median of ratios within a turn. Peak memory counts
weights, gradients, the form's own optimiser state and all that the step keeps.
Utilisation is the FLOPs that the method needs (masked-out attention and
recomputation not counted) by the rate of a large matrix product.

--sweep times `literal` and the fastest that is not compiled over image sizes
and batch sizes instead, and draws sweep.png in FOLDER.
"""

import argparse
import statistics
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import reference
import torch
from common import describe, quiet, save
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

import saim_mm
from saim_mm.models.target import patchify

matplotlib.use('agg')
from matplotlib import pyplot as plt  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / (
    'configs/pretrain/saim_vit-base-p16_32xb64-amp-coslr-300e_in1k.py'
)
STAGES = ('forward', 'backward', 'optimiser')


@dataclass
class Form:
    """One way to run the step."""

    name: str
    dtype: torch.dtype
    literal: bool = False
    fused_attention: bool = False
    optimiser: str = 'groups'  # 'groups', 'merged' or 'fused'
    compiled: bool = False
    checkpointing: bool = False


def forms(dtype, compile):
    """The rows of the table."""
    attention = dict(fused_attention=True)
    fused = dict(fused_attention=True, optimiser='fused')
    rows = [
        Form('literal', dtype, literal=True, optimiser='merged'),
        Form('plain', dtype),
        Form('+ fused attention', dtype, **attention),
        Form('+ fused AdamW, 2 groups', dtype, **fused),
    ]
    if compile:
        rows.append(Form('+ torch.compile', dtype, compiled=True, **fused))
    rows.append(
        Form('eager, checkpointing', dtype, checkpointing=True, **fused)
    )
    if dtype != torch.float32:
        rows.append(Form('eager, float32', torch.float32, **fused))
    return rows


def fastest(rows):
    """The row with all optimisations."""
    return [row for row in rows if row.name.startswith('+')][-1]


class Bench:
    """A model, a batch, and the step in each form."""

    def __init__(self, args, forms, img_size, batch_size):
        torch.manual_seed(0)
        cfg = Config.fromfile(CONFIG)
        cfg.model.backbone.update(
            arch=args.arch, img_size=img_size, patch_size=args.patch_size
        )
        self.device = torch.device(args.device)
        self.model = MODELS.build(cfg.model)
        self.model.init_weights()
        self.model.to(self.device).train()
        self.batch_size = batch_size
        self.images = torch.randn(batch_size, 3, img_size, img_size)
        self.images = self.images.to(self.device)
        rows, columns = self.model.backbone.patch_resolution
        noise = torch.rand(batch_size, rows * columns, device=self.device)
        self.noise = noise
        self.order = saim_mm.PredictionOrder.from_noise(noise)
        self.eager_loss = self.model.compute_loss
        self.compiled_loss = torch.compile(
            self.model.compute_loss, fullgraph=True, dynamic=False
        )
        self.optimisers = {}
        for form in forms:
            if form.optimiser not in self.optimisers:
                self.optimisers[form.optimiser] = self._optimizer(
                    cfg.optim_wrapper, form.optimiser
                )

    def _optimizer(self, cfg, kind):
        cfg = cfg.copy()
        cfg.type = 'OptimWrapper'
        if kind == 'groups':
            cfg.pop('constructor')
        cfg.optimizer.update(lr=0.0, fused=kind == 'fused')
        return build_optim_wrapper(self.model, cfg).optimizer

    def loss(self, form):
        if form.literal:
            backbone = self.model.backbone
            return reference.pretrain(
                dict(self.model.named_parameters()),
                self.images,
                self.noise,
                patch_size=backbone.patch_size,
                num_layers=backbone.num_layers,
                num_heads=backbone.arch_settings['num_heads'],
            )[1]
        for layer in (*self.model.backbone.layers, *self.model.neck.layers):
            layer.with_cp = form.checkpointing
        loss = self.compiled_loss if form.compiled else self.eager_loss
        return loss(self.images, self.order)

    def step(self, form):
        """One training step: its loss and the seconds of each stage."""
        optimiser = self.optimisers[form.optimiser]
        attention = (
            nullcontext()
            if form.fused_attention or form.literal
            else sdpa_kernel(SDPBackend.MATH)
        )
        autocast = torch.autocast(
            self.device.type, form.dtype, enabled=form.dtype != torch.float32
        )
        marks = [self._mark()]
        with attention, autocast:
            loss = self.loss(form)
        marks.append(self._mark())
        loss.backward()
        marks.append(self._mark())
        optimiser.step()
        marks.append(self._mark())
        loss = loss.item()  # waits for the device
        self.model.zero_grad(set_to_none=True)
        return loss, [self._between(a, b) for a, b in zip(marks, marks[1:])]

    def _mark(self):
        if self.device.type != 'cuda':
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, start, end):
        if self.device.type != 'cuda':
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1000

    def inspect(self, form):
        """The attention kernel that runs, and the peak memory in GiB."""
        cuda = self.device.type == 'cuda'
        activities = [ProfilerActivity.CPU]
        if cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        with profile(activities=activities, profile_memory=not cuda) as log:
            self.step(form)
        if cuda:
            peak = torch.cuda.max_memory_allocated() - before
        else:
            alive = peak = 0
            for event in log.profiler.kineto_results.events():
                if event.name() == '[memory]':
                    alive += event.nbytes()
                    peak = max(peak, alive)
        state = self.optimisers[form.optimiser].state_dict()['state']
        resident = [*self.model.parameters(), *self.model.buffers()]
        resident += [v for s in state.values() for v in s.values()]
        peak += sum(t.numel() * t.element_size() for t in resident)
        prefix = 'aten::_scaled_dot_product_'
        kernels = {
            event.key[len(prefix) :]
            for event in log.key_averages()
            if event.key.startswith(prefix) and 'backward' not in event.key
        }
        kernel = (
            'eager, masked'
            if form.literal
            else ', '.join(sorted(kernels)) or 'plain lines'
        )
        return kernel.replace('attention_', '').strip(), peak / 2**30

    def flops(self):
        """FLOPs of a training step that the method needs, and of its
        matrix products by shape: {(k, n): how many with batch x L rows}."""
        arch, length = self.model.backbone.arch_settings, self.noise.shape[1]
        width, hidden = arch['embed_dims'], arch['feedforward_channels']
        pixels = self.model.backbone.patch_size**2 * 3
        blocks = arch['num_layers'] + self.model.neck.depth
        shapes = {
            (width, 3 * width): blocks,
            (width, width): blocks,
            (width, hidden): blocks,
            (hidden, width): blocks,
        }
        for shape in ((width, 4 * width), (4 * width, pixels)):
            shapes[shape] = shapes.get(shape, 0) + 1
        per_token = sum(k * n * count for (k, n), count in shapes.items())
        embedding = pixels * width * 2 / 3  # needs no gradient of its input
        attention = blocks * length * width  # two products, half of them seen
        total = 6 * length * (per_token + embedding + attention)
        return self.batch_size * total, shapes


def median_seconds(function, device, repeats=5):
    """Median time of a function."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        if device.type == 'cuda':
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def product_seconds(m, k, n, dtype, device):
    """Time of an (m, k) by (k, n) product of random matrices."""
    a = torch.randn(m, k, device=device, dtype=dtype)
    b = torch.randn(k, n, device=device, dtype=dtype)
    return median_seconds(lambda: a @ b, device)


def products_alone(bench, dtype):
    """Time of a step's matrix products with nothing between them: those of
    the linear layers measured, attention's at the same rate."""
    total, shapes = bench.flops()
    rows = bench.noise.numel()
    seconds = flops = 0
    for (k, n), count in shapes.items():
        for shape in ((rows, k, n), (rows, n, k), (k, rows, n)):
            taken = product_seconds(*shape, dtype, bench.device)
            seconds += count * taken
            flops += count * 2 * rows * k * n
    return seconds * total / flops


def measure(bench, rows, steps):
    """Take turns; returns {name: (loss, [stages] by turn)}."""
    results = {row.name: [] for row in rows}
    losses = {}
    for turn in range(steps + 1):
        for row in rows:
            loss, stages = bench.step(row)
            losses.setdefault(row.name, loss)
            if turn:  # the first warms up, and compiles
                results[row.name].append(stages)
    return losses, results


def print_table(args):
    """The table of forms."""
    rows = forms(args.dtype, args.compile)
    bench = Bench(args, rows, args.img_size, args.batch_size)
    losses, results = measure(bench, rows, args.steps)
    alone = products_alone(bench, args.dtype)
    side = 8192 if bench.device.type == 'cuda' else 2048
    rate = (
        2
        * side**3
        / product_seconds(side, side, side, args.dtype, bench.device)
    )
    flops, _ = bench.flops()
    print(
        '| form | images/s | literal = 1 | utilization | s forward + backward '
        '+ optimiser | peak GiB | attention kernel | loss |'
    )
    print('| --- ' * 8 + '|')
    literal = [sum(stages) for stages in results[rows[0].name]]
    for row in rows:
        turns = [sum(stages) for stages in results[row.name]]
        seconds = statistics.median(turns)
        speed = statistics.median(a / b for a, b in zip(literal, turns))
        split = ' + '.join(
            f'{statistics.median(s):.3f}' for s in zip(*results[row.name])
        )
        kernel, memory = bench.inspect(row)
        print(
            f'| {row.name} | {args.batch_size / seconds:.4g} | {speed:.2f} | '
            f'{100 * flops / seconds / rate:.0f} % | {split} | '
            f'{memory:.2f} | {kernel} | {losses[row.name]:.5f} |'
        )
        if row is fastest(rows):
            best = seconds
    print(
        f'{flops / args.batch_size / 1e9:.0f} GFLOP per image and step; a '
        f'{side} x {side} product in {args.dtype_name}: '
        f'{rate / 1e12:.3g} TFLOP/s, at most '
        f'{rate / flops * args.batch_size:.4g} images/s. '
        f"The step's matrix products alone: {alone:.3f} s; the fastest form "
        f'takes {best / alone:.2f} times that'
    )
    print_parts(bench, args.dtype, best)


def print_parts(bench, dtype, step):
    """Time of the parts around the transformer, beside what they could be."""
    projection = bench.model.backbone.patch_embed.projection
    size = bench.model.backbone.patch_size
    images, device = bench.images, bench.device
    last = images.to(memory_format=torch.channels_last)
    # The kernel in the order of a patch's pixels: row, column, channel.
    weight = projection.weight.detach().permute(0, 2, 3, 1).flatten(1)
    autocast = torch.autocast(
        device.type, dtype, enabled=dtype != torch.float32
    )
    rows, columns = bench.model.backbone.patch_resolution
    parts = {
        'patch embedding, convolution': lambda: projection(images),
        'patch embedding, convolution, channels last': lambda: projection(
            last
        ),
        'patch embedding, linear': lambda: torch.nn.functional.linear(
            patchify(images, size), weight, projection.bias
        ),
        'target': lambda: bench.model.target_generator(images),
        'drawing orders': lambda: saim_mm.PredictionOrder.sample(
            'stochastic', len(images), (rows, columns), device
        ),
    }
    print('| part, forward | ms | of the fastest step |\n| --- | --- | --- |')
    with torch.no_grad(), autocast:
        for name, part in parts.items():
            seconds = median_seconds(part, device)
            print(
                f'| {name} | {1000 * seconds:.3g} | '
                f'{100 * seconds / step:.2g} % |'
            )


def name(row):
    """What the sweep calls a form."""
    return 'literal, masked' if row.literal else 'saim_mm'


def sweep(args):
    """Time and memory by image size and batch size, and their curves."""
    rows = forms(args.dtype, compile=False)
    rows = [rows[0], fastest(rows)]
    base = args.img_size
    sizes = [base, 2 * base, 4 * base]
    batches = sorted({max(1, args.batch_size // 4**i) for i in range(3)})
    settings = [(size, batches[0]) for size in sizes]
    settings += [(base, batch) for batch in batches if batch != batches[0]]
    figures = {}
    print('| image size | batch | form | images/s | peak GiB |')
    print('| --- | --- | --- | --- | --- |')
    for size, batch in settings:
        bench = Bench(args, rows, size, batch)
        alive = []
        for row in rows:  # a form that needs too much memory is left out
            try:
                bench.step(row)
                alive.append(row)
            except torch.OutOfMemoryError:
                bench.model.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                print(f'| {size} | {batch} | {name(row)} | out of memory | |')
        _, results = measure(bench, alive, args.steps)
        for row in alive:
            seconds = statistics.median(map(sum, results[row.name]))
            figure = (batch / seconds, bench.inspect(row)[1])
            figures[size, batch, row.name] = figure
            print(
                f'| {size} | {batch} | {name(row)} | {figure[0]:.4g} | '
                f'{figure[1]:.2f} |',
                flush=True,
            )

    canvas, axes = plt.subplots(2, 2, figsize=(9, 6), sharex='col')
    labels = ('images/s', 'peak memory, GiB')
    columns = (
        (0, f'image size (batch {batches[0]})', sizes, 1, batches[0]),
        (1, f'batch size ({base} pixels)', batches, 0, base),
    )
    for axis, label, values, other, fixed in columns:
        for number in range(2):
            plot = axes[number, axis]
            for row in rows:
                points = [
                    (key[axis], figures[key][number])
                    for key in sorted(figures)
                    if key[2] == row.name and key[other] == fixed
                ]
                plot.plot(*zip(*points), marker='o', label=name(row))
            plot.set(xscale='log', ylabel=labels[number])
            plot.set_xticks(values, [str(v) for v in values], minor=False)
            plot.xaxis.minorticks_off()
            if axis == 0:  # two orders of magnitude
                plot.set_yscale('log')
            else:
                plot.set_ylim(bottom=0)
        axes[1, axis].set_xlabel(label)
    axes[0, 0].legend()
    canvas.suptitle(title(args))
    save(canvas, args.out / 'sweep.png')


def title(args):
    """What is measured, on what."""
    return (
        f'ViT {args.arch}/{args.patch_size}, {args.dtype_name}, '
        f'{describe(args.device)}'
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--arch', default='base')
    parser.add_argument('--img-size', type=int, default=224)
    parser.add_argument('--patch-size', type=int, default=16)
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument(
        '--dtype',
        dest='dtype_name',
        default='bfloat16',
        choices=['float32', 'bfloat16', 'float16'],
    )
    parser.add_argument('--steps', type=int, default=5)
    parser.add_argument('--device', default=get_device())
    parser.add_argument('--no-compile', dest='compile', action='store_false')
    parser.add_argument('--sweep', action='store_true')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/bench'))
    args = parser.parse_args()
    args.dtype = getattr(torch, args.dtype_name)
    quiet()
    print(title(args))
    if args.sweep:
        sweep(args)
        return
    print(
        f'image size {args.img_size}, batch {args.batch_size}, median of '
        f'{args.steps} turns'
    )
    print_table(args)


if __name__ == '__main__':
    main()
