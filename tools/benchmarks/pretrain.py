"""Time a pre-training step beside the literal masked form of the method.

    python tools/benchmarks/pretrain.py [--arch base] [--img-size 224]
        [--batch-size 8] [--steps 5] [--threads N]

Both forms start from the same weights, see the same images in the same order,
and take turns in one process; printed are medians, their ratio, and the loss
and the largest gradient difference of the first step. The literal form is the
authors' two streams with added float masks over all patches and the class
token (eager attention). Peak memory is measured in a process of its own.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
from mmpretrain.registry import MODELS

import saim_mm

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'tests'))
import literal  # noqa: E402

FORMS = ('literal', 'saim_mm')


def build(args):
    """The model and a batch."""
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='SAIM',
            backbone=dict(
                type='SAIMViT',
                arch=args.arch,
                img_size=args.img_size,
                patch_size=args.patch_size,
            ),
            neck=dict(type='SAIMDecoder'),
            head=dict(type='SAIMHead'),
            target_generator=dict(type='SmoothedPatchTarget'),
        )
    )
    for module in (model.backbone, model.neck, model.head):
        for child in module.modules():
            if isinstance(child, torch.nn.Linear):
                torch.nn.init.xavier_uniform_(child.weight)
    images = torch.randn(args.batch_size, 3, args.img_size, args.img_size)
    rows, columns = model.backbone.patch_resolution
    return model, images, torch.rand(args.batch_size, rows * columns)


def step(form, model, images, noise):
    """Forward and backward; returns the loss."""
    model.zero_grad()
    if form == 'literal':
        _, loss, _ = literal.pretrain(
            dict(model.named_parameters()),
            images,
            noise,
            patch_size=model.backbone.patch_size,
            num_layers=model.backbone.num_layers,
            num_heads=model.backbone.arch_settings['num_heads'],
        )
    else:
        order = saim_mm.PredictionOrder.from_noise(noise)
        loss = model.loss(images, order=order)['loss']
    loss.backward()
    return loss.item()


def peak_memory(form, args, queue):
    """Peak resident memory of a few steps, and before them, in GiB."""
    torch.set_num_threads(args.threads)
    batch = build(args)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        step(form, *batch)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    queue.put((before / 2**20, after / 2**20))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--arch', default='base')
    parser.add_argument('--img-size', type=int, default=224)
    parser.add_argument('--patch-size', type=int, default=16)
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument('--steps', type=int, default=5)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    memory = {}
    context = multiprocessing.get_context('spawn')
    for form in FORMS:
        queue = context.Queue()
        process = context.Process(target=peak_memory, args=(form, args, queue))
        process.start()
        memory[form] = queue.get()
        process.join()

    model, images, noise = build(args)
    seconds = {form: [] for form in FORMS}
    first = {}
    for repeat in range(args.steps + 1):
        for form in FORMS:
            start = time.perf_counter()
            loss = step(form, model, images, noise)
            if repeat == 0:  # warm-up; compare instead
                first[form] = (
                    loss,
                    {
                        name: p.grad.clone()
                        for name, p in model.named_parameters()
                        if p.grad is not None
                    },
                )
            else:
                seconds[form].append(time.perf_counter() - start)

    print(
        f'{args.arch}/{args.patch_size} at {args.img_size}, batch '
        f'{args.batch_size}, float32, CPU, {args.threads} threads, torch '
        f'{torch.__version__}; forward and backward, median of {args.steps}'
    )
    print('| form | s per step | images/s | peak memory GiB (before) | loss |')
    print('| --- | --- | --- | --- | --- |')
    medians = {form: statistics.median(seconds[form]) for form in FORMS}
    for form in FORMS:
        before, after = memory[form]
        print(
            f'| {form} | {medians[form]:.2f} | '
            f'{args.batch_size / medians[form]:.2f} | '
            f'{after:.2f} ({before:.2f}) | {first[form][0]:.6f} |'
        )
    ratios = [a / b for a, b in zip(*(seconds[form] for form in FORMS))]
    grads = [first[form][1] for form in FORMS]
    scale = max(g.abs().max() for g in grads[0].values())
    difference = max((grads[0][n] - grads[1][n]).abs().max() for n in grads[0])
    print(
        f'literal / saim_mm: {statistics.median(ratios):.2f} x the time; '
        f'largest gradient difference {difference / scale:.1e} of the largest '
        'gradient'
    )


if __name__ == '__main__':
    main()
