"""Time and memory of a dense backbone's training step.

    python tools/benchmarks/detection.py [--arch base] [--size 1024]
        [--batch-size 1] [--steps 5] [--dtype bfloat16] [--device cuda]

Windows against the whole image, relative position bias on and off, and beside
each the same blocks as ViTDet writes them: windows padded before they are
projected, attention and its bias as matrices (mmpretrain's ViTSAM has these).
All are interleaved in one process; medians of the steps. On a GPU memory is
the peak of a step; on a CPU that of a process of its own, libraries included.
"""

import argparse
import multiprocessing
import resource
import statistics
import time

import torch
from common import describe, quiet
from mmpretrain.models.backbones.vit_sam import TransformerEncoderLayer
from torch import nn

from saim_mm import SAIMViT

WINDOWS = {'windows of 14': 14, 'whole image': 0}
FORMS = [
    (window, rel_pos, literal)
    for window in WINDOWS
    for rel_pos in (False, True)
    for literal in (True, False)
]


class Literal(nn.Module):
    """The same backbone of ViTDet's blocks."""

    def __init__(self, ours):
        super().__init__()
        self.patch_embed, self.pos_embed = ours.patch_embed, ours.pos_embed
        self.grid = ours.patch_resolution
        settings = ours.arch_settings
        self.blocks = nn.ModuleList(
            TransformerEncoderLayer(
                settings['embed_dims'],
                settings['num_heads'],
                settings['feedforward_channels'],
                norm_cfg=dict(type='LN', eps=1e-6),
                use_rel_pos=block.attn.use_rel_pos,
                window_size=block.attn.window_size,
                input_size=self.grid,
            )
            for block in ours.layers
        )
        self.blocks.load_state_dict(ours.layers.state_dict())

    def forward(self, images):
        x = self.patch_embed(images)[0] + self.pos_embed
        x = x.unflatten(1, self.grid)
        for block in self.blocks:
            x = block(x)
        return (x.permute(0, 3, 1, 2),)


def build(args, form):
    """A model of a form, the same weights for all."""
    window, rel_pos, literal = form
    torch.manual_seed(0)
    model = SAIMViT(
        args.arch,
        img_size=args.size,
        out_type='featmap',
        with_cls_token=False,
        final_norm=False,
        window_size=WINDOWS[window],
        use_rel_pos=rel_pos,
    )
    return (Literal(model) if literal else model).to(args.device).train()


def step(args, model, images):
    """Forward and backward; returns seconds."""
    model.zero_grad()
    synchronize = (
        torch.cuda.synchronize if args.device == 'cuda' else lambda: None
    )
    synchronize()
    start = time.perf_counter()
    with torch.autocast(
        args.device, getattr(torch, args.dtype), args.dtype != 'float32'
    ):
        loss = model(images)[0].float().square().mean()
    loss.backward()
    synchronize()
    return time.perf_counter() - start


def peak(args, index):
    """Peak memory of a form in GiB."""
    if args.device == 'cuda':
        model = build(args, FORMS[index])
        images = make_images(args)
        torch.cuda.reset_peak_memory_stats()
        step(args, model, images)
        return torch.cuda.max_memory_allocated() / 2**30
    queue = multiprocessing.get_context('fork').SimpleQueue()
    process = multiprocessing.get_context('fork').Process(
        target=step_and_tell, args=(args, index, queue)
    )
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f'{FORMS[index]}: exit code {process.exitcode}')
    return queue.get()


def step_and_tell(args, index, queue):
    """In a process of its own: put its peak memory in the queue."""
    step(args, build(args, FORMS[index]), make_images(args))
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def make_images(args):
    return torch.randn(
        args.batch_size, 3, args.size, args.size, device=args.device
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--arch', default='base')
    parser.add_argument('--size', type=int, default=1024)
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument('--steps', type=int, default=5)
    parser.add_argument(
        '--dtype',
        default='bfloat16',
        choices=['float32', 'float16', 'bfloat16'],
    )
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    args = parser.parse_args()
    quiet()
    print(
        f'ViT {args.arch} at {args.size}, batch {args.batch_size}, '
        f'{args.dtype}, {describe(args.device)}\n'
    )
    memory = [peak(args, i) for i in range(len(FORMS))]
    images = make_images(args)
    models = [build(args, form) for form in FORMS]
    times = [[] for _ in FORMS]
    for number in range(args.steps + 1):
        for model, measured in zip(models, times):
            seconds = step(args, model, images)
            if number:  # the first warms up
                measured.append(seconds)
    print('| attention | position bias | form | s/step | ratio | peak GiB |')
    print('| --- | --- | --- | --- | --- | --- |')
    for i, (window, rel_pos, literal) in enumerate(FORMS):
        base = times[i if literal else i - 1]
        ratio = statistics.median(a / b for a, b in zip(base, times[i]))
        print(
            f'| {window} | {"relative" if rel_pos else "none"} | '
            f'{"ViTDet, literal" if literal else "saim_mm"} | '
            f'{statistics.median(times[i]):.3f} | {ratio:.2f} | '
            f'{memory[i]:.2f} |'
        )


if __name__ == '__main__':
    main()
