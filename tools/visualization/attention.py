"""Draw where the patches of an image look (Fig. 4 of the paper).

    python tools/visualization/attention.py IMAGE ...
        [--config CONFIG --checkpoint CHECKPOINT]
        [--out attention.png] [--point X,Y ...] [--layer -1] [--head N ...]
        [--size SIDE]

For each point of each image: attention rollout through all blocks, then the
mean of the heads of --layer and each head, or those of --head. CONFIG is of
pre-training or of classification with a plain ViT, of this package or
mmpretrain's. Points are in pixels of the drawn image, which is cut and scaled
to --size; without --point the middle.
"""

from pathlib import Path

from model_and_images import encoder, load, parse, point, save

from saim_mm.visualization.attention import draw_attention


def main():
    args = parse(
        __doc__,
        ('--out', dict(default='attention.png')),
        ('--point', dict(type=point, action='append', metavar='X,Y')),
        ('--layer', dict(type=int, default=-1)),
        ('--head', dict(type=int, action='append', metavar='N')),
    )
    vit = encoder(args)
    height, width = vit.img_size
    points = args.point or [(width // 2, height // 2)]
    images = load(args, vit.img_size)
    out = Path(args.out)
    for number, image in enumerate(images):
        try:
            figure = draw_attention(
                vit, image, points, args.layer, args.head, args.pixels
            )
        except ValueError as error:
            raise SystemExit(error) from error
        suffix = f'_{number}' if len(images) > 1 else ''
        save(figure, out.with_name(f'{out.stem}{suffix}{out.suffix}'))


if __name__ == '__main__':
    main()
