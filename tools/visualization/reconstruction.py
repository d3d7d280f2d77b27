"""Draw what a pre-trained SAIM predicts (Fig. 3 of the paper).

    python tools/visualization/reconstruction.py IMAGE ...
        [--config CONFIG --checkpoint CHECKPOINT]
        [--out reconstruction.png] [--seed 0] [--orders 1] [--size SIDE]
        [--mae MAE_CONFIG MAE_CHECKPOINT]

IMAGE is a file or a folder; of a folder, eight images are drawn. With --orders
3 every image is predicted in three orders. --mae adds an MAE of mmpretrain.
--size: by default the config's; 192 for the model that comes with the package,
whose patches are too coarse for a picture at the 96 that it was trained on.
"""

import torch
from mmpretrain import get_model
from model_and_images import load, parse, pretrained, save

from saim_mm.checkpoint import zoo
from saim_mm.visualization.reconstruction import draw_reconstructions


def main():
    args = parse(
        __doc__,
        ('--out', dict(default='reconstruction.png')),
        ('--seed', dict(type=int, default=0, help='of the orders')),
        ('--orders', dict(type=int, default=1, help='how many')),
        ('--mae', dict(nargs=2, metavar=('CONFIG', 'CHECKPOINT'))),
    )
    if args.checkpoint == zoo.SCHEME + zoo.DEMO:
        args.size = args.size or (192, 192)
    model = pretrained(args)
    mae = get_model(*args.mae).eval() if args.mae else None
    images = load(args, model.backbone.img_size)
    if mae is not None and tuple(mae.backbone.img_size) != images.shape[2:]:
        raise SystemExit(
            f'--mae {args.mae[0]}: its images are {mae.backbone.img_size} '
            f'(height, width), and these {tuple(images.shape[2:])}: --size'
        )
    torch.manual_seed(args.seed)
    orders = [None] * args.orders
    figure = draw_reconstructions(model, images, orders, mae, args.pixels)
    save(figure, args.out)


if __name__ == '__main__':
    main()
