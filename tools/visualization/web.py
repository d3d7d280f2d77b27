"""A local web page with the tools of this folder, for a picture of yours.

    python tools/visualization/web.py
        [--config CONFIG --checkpoint CHECKPOINT]
        [--port 7860] [--host 127.0.0.1] [--rgb R G B]

Needs Gradio (`pip install 'saim_mm[web]'`), and no network. With --host
0.0.0.0 others can open the page; it has no password.
"""

import argparse
import contextlib
import functools
import os
import tempfile
from pathlib import Path

import torch
from matplotlib.cbook import get_sample_data
from model_and_images import add_model, check_model, encoder, pretrained
from PIL import Image, ImageOps

from saim_mm.datasets.pixels import RGB
from saim_mm.utils.dependency import require
from saim_mm.visualization.attention import draw_attention
from saim_mm.visualization.figures import (
    figure_to_array,
    load_images,
)
from saim_mm.visualization.order import draw_order, save_generation
from saim_mm.visualization.pca import draw_pca
from saim_mm.visualization.reconstruction import draw_reconstructions

os.environ.setdefault('GRADIO_ANALYTICS_ENABLED', 'False')  # before importing
require('gradio', needed_by='tools/visualization/web.py')

import gradio as gr  # noqa: E402
from sklearn.datasets import load_sample_images  # noqa: E402

INTRODUCTION = """
# What SAIM does

Give a picture, choose a tab, press its button. Pictures are cut to a square
and scaled to the side that the tab asks for.
"""
#: Room for Gradio's icons above a result, which they would lie on.
CSS = '.result .image-container { padding-top: 2rem }'
TABS = dict(
    Reconstruction='Every patch as it is predicted from the patches before it '
    'in a random order, with its own mean and contrast.',
    Attention='Where the patch at one point looks: through all blocks '
    '(rollout), and in one block. Click on the picture to choose the point.',
    Order='The order, its two masks, what the patch at the point is predicted '
    'from; and the picture completed in that order from its first patches.',
    Features='The features of every patch, their three main components as '
    'red, green and blue.',
)


@contextlib.contextmanager
def shown_on_the_page():
    """Turn errors into messages on the page."""
    try:
        yield
    except (ValueError, SystemExit) as error:
        raise gr.Error(str(error)) from error


def to_pixels(figure):
    """A figure as (height, width, 3), uint8, sharp on a screen."""
    figure.set_dpi(150)
    return figure_to_array(figure)


class Page:
    """The handlers of the buttons.

    Args:
        config (str): Of the model.
        checkpoint (str): Of the model.
        pixels (PixelFormat): What its images are.
    """

    def __init__(self, config, checkpoint, pixels=RGB):
        self.pixels = pixels
        self.arguments = dict(config=config, checkpoint=checkpoint)
        # A few sizes of the same model.
        self.encoder = functools.lru_cache(4)(
            lambda side: encoder(self.options(side))
        )
        self.pretrained = functools.lru_cache(4)(
            lambda side: pretrained(self.options(side))
        )
        vit = self.encoder(None)
        self.side, self.patch_size = vit.img_size[0], vit.patch_size
        self.num_layers = len(vit.layers)
        # Small images show little of attention and features.
        self.large = max(self.side, 28 * self.patch_size)

    def options(self, side):
        """What ``encoder`` and ``pretrained`` take."""
        size = side and (int(side), int(side))
        return argparse.Namespace(size=size, **self.arguments)

    def load(self, path, side):
        """The image of the page, (1, C, side, side)."""
        if not path:
            raise ValueError('no picture: upload one first')
        try:
            return load_images([path], (int(side), int(side)), self.pixels)
        except ValueError as error:
            # Nobody has chosen the folder that Gradio keeps it in.
            raise ValueError(
                str(error).replace(path, Path(path).name)
            ) from error

    def point(self, x, y, side):
        """Per cent of the drawn image, as pixels."""
        return tuple(min(int(n / 100 * side), int(side) - 1) for n in (x, y))

    def pick(self, path, event: gr.SelectData):
        """A click on the picture, as per cent of the square drawn of it."""
        with shown_on_the_page(), Image.open(path) as image:
            width, height = ImageOps.exif_transpose(image).size
            side = min(width, height)
            x, y = (
                round(100 * ((n - length / 2) / side + 0.5))
                for n, length in zip(event.index, (width, height))
            )
            if not (0 <= x <= 100 and 0 <= y <= 100):
                raise ValueError(
                    f'point {tuple(event.index)}: outside of the square in '
                    'the middle, which is what is drawn'
                )
            return x, y

    def reconstruction(self, path, side, orders, seed):
        with shown_on_the_page():
            image = self.load(path, side)
            model = self.pretrained(side)
            torch.manual_seed(int(seed))
            return to_pixels(
                draw_reconstructions(
                    model, image, [None] * int(orders), pixels=self.pixels
                )
            )

    def attention(self, path, side, x, y, layer):
        with shown_on_the_page():
            image = self.load(path, side)[0]
            points = [self.point(x, y, side)]
            figure = draw_attention(
                self.encoder(side),
                image,
                points,
                int(layer),
                pixels=self.pixels,
            )
            return to_pixels(figure)

    def order(self, path, side, x, y, given, seed):
        with shown_on_the_page():
            image = self.load(path, side)
            model = self.pretrained(side)
            torch.manual_seed(int(seed))
            order = model.sample_order(self.pixels.normalize(image))
            figure = draw_order(
                order,
                self.pixels.to_rgb(image[0]),
                self.patch_size,
                self.point(x, y, side),
            )
            gif = Path(tempfile.mkdtemp()) / 'completion.gif'
            number = order.indices.shape[1]
            given = round(given / 100 * number)
            save_generation(gif, model, image[0], order, given, self.pixels)
            return to_pixels(figure), str(gif)

    def features(self, path, side, layer):
        with shown_on_the_page():
            image = self.load(path, side)
            figure = draw_pca(
                self.encoder(side), image, int(layer), self.pixels
            )
            return to_pixels(figure)

    def side_slider(self, value, at_most=None):
        return gr.Slider(
            4 * self.patch_size,
            at_most or 2 * self.large,
            value,
            step=self.patch_size,
            label='Side in pixels',
        )

    def layer_slider(self):
        last = self.num_layers - 1
        return gr.Slider(0, last, last, step=1, label='Block')

    def build(self):
        """The page."""
        # Fonts of the system: others would be fetched from the network.
        theme = gr.themes.Default(
            font=['system-ui', 'sans-serif'], font_mono=['monospace']
        )
        with gr.Blocks(title='SAIM', theme=theme, css=CSS) as page:
            gr.Markdown(INTRODUCTION)
            gr.Markdown(
                f'Model: `{Path(self.arguments["config"]).stem}`, weights '
                f'`{self.arguments["checkpoint"]}`'
            )
            with gr.Row():
                with gr.Column(scale=1):
                    image = self.picture()
                    seed = gr.Number(0, label='Seed of the orders')
                    x = gr.Slider(0, 100, 50, step=1, label='Point: x, %')
                    y = gr.Slider(0, 100, 50, step=1, label='Point: y, %')
                with gr.Column(scale=3):
                    self.build_tabs(image, seed, x, y)
        return page

    def picture(self):
        """Where a picture is given: a file, if browsers might not show it."""
        style = dict(type='filepath', label='Picture', elem_id='picture')
        if not self.pixels.plain:
            return gr.File(**style)
        examples = [
            str(get_sample_data('grace_hopper.jpg', False)),
            *load_sample_images().filenames,
        ]
        image = gr.Image(examples[0], sources=['upload', 'clipboard'], **style)
        # The file as it is: Page.load says what is wrong with it.
        image.preprocess = lambda file: file and file.path
        gr.Examples(examples, image, label='Photographs')
        return image

    def build_tabs(self, image, seed, x, y):
        """The tabs, each with its button and result."""
        with gr.Tab('Reconstruction'):
            gr.Markdown(TABS['Reconstruction'])
            side = self.side_slider(self.large)
            orders = gr.Slider(1, 4, 2, step=1, label='Orders')
            self.button(
                'Reconstruct',
                self.reconstruction,
                [image, side, orders, seed],
                height=840,
            )
        with gr.Tab('Attention'):
            gr.Markdown(TABS['Attention'])
            side = self.side_slider(self.large)
            self.button(
                'Draw attention',
                self.attention,
                [image, side, x, y, self.layer_slider()],
            )
            if self.pixels.plain:  # else there is nothing to click on
                image.select(self.pick, [image], [x, y])
        with gr.Tab('Order'):
            gr.Markdown(TABS['Order'])
            side = self.side_slider(self.side, 2 * self.side)
            given = gr.Slider(0, 100, 50, step=1, label='Per cent given')
            self.button(
                'Complete',
                self.order,
                [image, side, x, y, given, seed],
                with_animation=True,
            )
        with gr.Tab('Features'):
            gr.Markdown(TABS['Features'])
            side = self.side_slider(self.large)
            self.button(
                'Draw features',
                self.features,
                [image, side, self.layer_slider()],
                height=560,
            )

    def button(self, text, handler, inputs, height=None, with_animation=False):
        """A button and the pictures that it makes, of a height in pixels."""
        button = gr.Button(text, variant='primary')
        style = dict(show_label=False, format='png', elem_classes='result')
        outputs = [gr.Image(height=height, **style)]
        if with_animation:
            outputs.append(gr.Image(type='filepath', **style))
        button.click(handler, inputs, outputs)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model(parser)
    parser.add_argument('--port', type=int, default=7860)
    parser.add_argument('--host', default='127.0.0.1')
    args = parser.parse_args()
    check_model(parser, args)
    page = Page(args.config, args.checkpoint, args.pixels).build()
    try:
        page.launch(
            server_name=args.host, server_port=args.port, show_error=True
        )
    except OSError as error:
        parser.error(
            f'--port {args.port}: in use, or not allowed; choose another '
            f'({error})'
        )


if __name__ == '__main__':
    main()
