"""Draw the features of every patch as colours: their principal components.

    python tools/visualization/pca.py IMAGE ...
        [--config CONFIG --checkpoint CHECKPOINT]
        [--out pca.png] [--layer -1] [--size SIDE]

The components are those of all images together, so a colour means the same in
each. CONFIG is of pre-training or of classification with a plain ViT, of this
package or mmpretrain's. The larger --size, the finer the map.
"""

from model_and_images import encoder, load, parse, save

from saim_mm.visualization.pca import draw_pca


def main():
    args = parse(
        __doc__,
        ('--out', dict(default='pca.png')),
        ('--layer', dict(type=int, default=-1)),
    )
    vit = encoder(args)
    images = load(args, vit.img_size)
    try:
        figure = draw_pca(vit, images, args.layer, args.pixels)
    except ValueError as error:
        raise SystemExit(error) from error
    save(figure, args.out)


if __name__ == '__main__':
    main()
