"""Time the two forms of attention that saim_mm.models.attention chooses from.

    python tools/benchmarks/attention.py [--device cpu] [--turns 9]

Prints, for each dtype, width of a head and length, how many times as long the
fused kernel takes as the plain form, forward and backward, causal: medians of
turns side by side, in the time of the process (of CPUs) or of the clock.
"""

import argparse
import statistics
import time

import torch

from saim_mm.models.attention import attend_plainly

LENGTHS = (64, 128, 196, 256, 400, 576, 1024)


def fused(q, k, v, mask, is_causal, scale):
    return torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=is_causal, scale=scale
    )


def seconds(form, tensors, gradient):
    clock = time.process_time
    if gradient.is_cuda:
        clock = time.perf_counter
        torch.cuda.synchronize()
    start = clock()
    form(*tensors, None, True, tensors[0].shape[-1] ** -0.5).backward(gradient)
    if gradient.is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def ratio(length, width, dtype, args):
    """Time of the fused form by that of the plain one."""
    shape = (max(1, 2**19 // length**2), 6, length, width)
    *tensors, gradient = (
        torch.randn(shape, device=args.device, dtype=dtype) for _ in range(4)
    )
    tensors = [tensor.requires_grad_() for tensor in tensors]
    for form in (fused, attend_plainly):
        seconds(form, tensors, gradient)
    return statistics.median(
        seconds(fused, tensors, gradient)
        / seconds(attend_plainly, tensors, gradient)
        for _ in range(args.turns)
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--turns', type=int, default=9)
    args = parser.parse_args()
    print('| length | width of a head | dtype | fused / plain |')
    print('| --- | --- | --- | --- |')
    for dtype in (torch.bfloat16, torch.float32):
        for width in (32, 64):
            for length in LENGTHS:
                found = ratio(length, width, dtype, args)
                name = str(dtype).removeprefix('torch.')
                print(f'| {length} | {width} | {name} | {found:.2f} |')


if __name__ == '__main__':
    main()
