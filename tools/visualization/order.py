"""Draw an order and its masks (Fig. 5), and an image completed in that order.

    python tools/visualization/order.py IMAGE
        [--config CONFIG --checkpoint CHECKPOINT] [--order NAME]
        [--out order.png] [--point X,Y] [--gif completion.gif] [--given K]
        [--seed 0] [--size SIDE]

--order: stochastic, raster, snake, spiral, center_out, checkerboard, or
another that is registered; default: the config's. --out: the order, the
content and the query mask, and what the patch at --point (in pixels of the
drawn image; default: the middle) is predicted from. --gif: also the image
completed from its first K patches (default: half of them), each prediction the
context of the next. A model that is trained on normalised patches knows
neither their mean nor their contrast: these are then the image's own, so that
is no free generation.
"""

import torch
from model_and_images import load, parse, point, pretrained, save

from saim_mm.models.orders import build_order
from saim_mm.models.saim import check_fit
from saim_mm.visualization.order import draw_order, save_generation


def main():
    args = parse(
        __doc__,
        ('--out', dict(default='order.png')),
        ('--gif', {}),
        ('--order', dict(metavar='NAME')),
        ('--given', dict(type=int)),
        ('--point', dict(type=point, metavar='X,Y')),
        ('--seed', dict(type=int, default=0)),
    )
    model = pretrained(args)
    image = load(args, model.backbone.img_size)[:1]
    torch.manual_seed(args.seed)
    try:
        if args.order:
            model.order = build_order(args.order)
            check_fit(model)
        order = model.sample_order(args.pixels.normalize(image))
    except ValueError as error:
        raise SystemExit(f'--order: {error}') from error
    height, width = model.backbone.img_size
    where = args.point or (width // 2, height // 2)
    number = order.indices.shape[1]
    given = number // 2 if args.given is None else args.given
    try:
        figure = draw_order(
            order,
            args.pixels.to_rgb(image[0]),
            model.backbone.patch_size,
            where,
        )
        save(figure, args.out)
        if args.gif is None:
            return
        save_generation(args.gif, model, image[0], order, given, args.pixels)
    except ValueError as error:
        raise SystemExit(error) from error
    print(
        f'wrote {args.gif}: {given} of {number} patches given, at the end the '
        'original'
    )


if __name__ == '__main__':
    main()
