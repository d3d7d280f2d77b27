"""The command ``saim``: a line for each thing that one does with images."""

from __future__ import annotations

import json
import runpy
import shlex
import sys
import warnings
from pathlib import Path
from typing import Any

import click
from mmengine.config import DictAction

from .utils.check import check_arg, end_with
from .utils.dependency import quietly

#: Commands that take up what they have done before.
GOES_ON = ('pretrain', 'finetune', 'embed', 'compare')


class Command(click.Group):
    """Ends with one line that says what was wrong."""

    def invoke(self, ctx: click.Context) -> Any:
        warnings.filterwarnings('ignore', module='mm')
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            line = 'stopped'
            if ctx.invoked_subcommand in GOES_ON:
                command = shlex.join(['saim', *sys.argv[1:]])
                line += f'; the same command goes on: {command}'
            click.echo(line, err=True)
            ctx.exit(130)
        except (
            ValueError,
            OSError,
            ImportError,
            FloatingPointError,
            RuntimeError,
        ) as error:
            if isinstance(error, click.exceptions.Exit):
                raise
            end_with(error)


@click.group(cls=Command, context_settings=dict(max_content_width=79))
def main() -> None:
    """Pre-train on images without labels, and use what was learned."""


def options_of(_: Any, __: Any, words: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE as ``--cfg-options`` reads it."""
    found = {}
    for word in words:
        key, sign, value = word.partition('=')
        if not sign:
            raise click.BadParameter(f'{word!r}: must be KEY=VALUE')
        found[key] = DictAction._parse_iterable(value)
    return found


OPTIONS = click.argument(
    'options', nargs=-1, metavar='[KEY=VALUE]...', callback=options_of
)
OUT = click.option('--out', required=True, help='folder of the training')
ARCH = click.option('--arch', help='mini, 192x4, tiny, small, base or large')
SIZE = click.option('--size', type=int, help='side of a crop in pixels')
PATCH = click.option('--patch', type=int, help='side of a patch in pixels')
CHANNELS = click.option(
    '--channels',
    type=int,
    help='channels of an image (default: what the images, or --init, have); '
    '3: RGB, a single channel is repeated',
)
EPOCHS = click.option('--epochs', type=int, help='passes over the images')


def train(cfg_and_line: tuple) -> Path:
    """Train, saying what."""
    from .engine.hooks.unreadable_files_hook import REPORT
    from .engine.run import run

    cfg, line = cfg_and_line
    click.echo(line, err=True)
    with quietly():
        path = run(cfg)
    report = Path(cfg.work_dir, REPORT)
    if report.is_file():
        number = len(report.read_text().splitlines())
        click.echo(f'skipped: {number} unreadable, see {report}', err=True)
    click.echo(f'wrote {path}', err=True)
    return path


def then(*words: str | Path) -> None:
    """Say what to type next."""
    click.echo(f'next: {shlex.join(map(str, words))}', err=True)


@main.command()
@click.argument('folder')
@OUT
@ARCH
@SIZE
@PATCH
@CHANNELS
@EPOCHS
@click.option('--init', help='a checkpoint to start from')
@OPTIONS
def pretrain(folder: str, out: str, **arguments: Any) -> None:
    """Pre-train on the images of FOLDER, without labels.

    What is not given follows from the images and the machine, and is said.
    The same command again goes on where it stopped. KEY=VALUE: any option of
    the config, which is in OUT/config.py.
    """
    from .engine.recipes import pretrain_config

    train(pretrain_config(folder, out, **arguments))
    words = ('--out', 'features.npz', '--neighbours', '5')
    then('saim', 'embed', folder, '--init', out, *words)


@main.command()
@click.argument('folder')
@OUT
@click.option('--init', help='folder that `saim pretrain` wrote')
@CHANNELS
@EPOCHS
@OPTIONS
def finetune(folder: str, out: str, **arguments: Any) -> None:
    """Train a classifier on FOLDER: a folder of images for each class.

    Either train/CLASS/* and val/CLASS/*, or CLASS/*, of which a fifth is kept
    for validation. KEY=VALUE: any option of the config, which is in
    OUT/config.py.
    """
    from .engine.compare import logged_accuracy
    from .engine.recipes import finetune_config

    cfg, line = finetune_config(folder, out, **arguments)
    train((cfg, line))
    top1 = logged_accuracy(Path(cfg.work_dir), cfg.train_cfg.max_epochs)
    if top1 is not None:
        click.echo(f'top-1 {top1:.1f} % of {out}/val.txt', err=True)
    then('saim', 'predict', out, 'IMAGE')


def say_skipped(skipped: list[tuple[str, str]]) -> None:
    """Name what could not be read."""
    from .datasets.images import in_a_line

    for name, reason in skipped:
        click.echo(f'skipped: {in_a_line(f"{name} ({reason})")}', err=True)


@main.command()
@click.argument('folder')
@click.argument('images', nargs=-1, required=True)
@click.option('--out', help='.csv or .json; else it is printed, as CSV')
@click.option('--pictures', help='a folder for pictures of what is found')
@click.option(
    '--score', default=0.3, show_default=True, help='least score of a box'
)
def predict(
    folder: str,
    images: tuple[str, ...],
    out: str | None,
    pictures: str | None,
    score: float,
) -> None:
    """Say what is in IMAGES: classes, boxes, or shares of the pixels.

    FOLDER is of a training: of a classifier (`saim finetune`), a detector or a
    segmentation model (tools/train.py). Masks of detectors are in the .json,
    maps of classes beside the pictures. Files that cannot be read are named
    and skipped.
    """
    from .engine.run import training_of
    from .evaluation.embed import write_csv
    from .evaluation.predict import predict as predict_images

    if out is not None:
        check_arg(
            out.endswith(('.csv', '.json')) and not Path(out).is_dir(),
            'out',
            out,
            'the name of a file that ends in .csv or .json',
        )
        Path(out).parent.mkdir(parents=True, exist_ok=True)
    with quietly():
        columns, rows, skipped = predict_images(
            *training_of(folder), images, pictures, score
        )
    say_skipped(skipped)
    if out and out.endswith('.json'):
        Path(out).write_text(json.dumps(rows, indent=1))
    else:
        cells = ([row[name] for name in columns] for row in rows)
        write_csv(out or '-', columns, cells)
    for name in filter(None, (out, pictures)):
        click.echo(f'wrote {name}', err=True)
    if not pictures:
        words = ('saim', 'predict', folder, *images, '--pictures', 'pictures')
        then(*words)


@main.command()
@click.argument('images', nargs=-1, required=True)
@click.option('--init', help='folder of a training, or a checkpoint')
@click.option('--model', help='with a checkpoint: a name of list_models()')
@click.option('--out', required=True, help='.npz, .csv or .safetensors')
@click.option(
    '--readout',
    default='patch_mean',
    type=click.Choice(['cls_token', 'patch_mean']),
    help='mean of the patches (the default), or the class token',
)
@click.option(
    '--neighbours',
    type=int,
    metavar='K',
    help='also the K most alike of each, as a table and a picture of some',
)
@click.option(
    '--duplicates',
    type=float,
    metavar='COSINE',
    help='also groups whose thumbnails are as alike as this, such as 0.99',
)
@click.option('--sheet', is_flag=True, help='also a picture of all, by t-SNE')
def embed(
    images: tuple[str, ...],
    out: str,
    init: str | None,
    model: str | None,
    readout: str,
    **also: Any,
) -> None:
    """Write a feature vector for each of IMAGES: files, or folders.

    Files that cannot be read are named and skipped. The same command again
    goes on where it stopped. What else is asked for lies beside OUT.
    Duplicates are images that look the same, saved or scaled again.
    """
    from .engine.run import model_and_checkpoint
    from .evaluation import embed as parts
    from .evaluation.similarity import check_similar, write_similar

    parts.checked_out(out)
    files = parts.files_of(images)
    check_similar(files, images, out, **also)
    given = model_and_checkpoint(init, model)
    with parts.parts_of(out) as folder:
        with (
            quietly(),
            click.progressbar(
                length=len(files),
                label=f'{len(files)} images',
                file=sys.stderr,
            ) as bar,
        ):
            found, pixels = parts.embed_images(
                files, folder, *given, readout, done=bar.update
            )
        say_skipped(found.skipped)
        parts.save_features(found.names, found.features.numpy(), out)
        size = f'{len(found.names)} x {found.features.shape[1]}'
        click.echo(f'wrote {out}: {size}', err=True)
        for line in write_similar(found, pixels, out, **also):
            click.echo(f'wrote {line}', err=True)
    if model is None:
        then('saim', 'view', *([init] if init else []))


@main.command()
@click.argument('folder', required=False)
@click.option('--port', default=7860, show_default=True)
@click.option(
    '--rgb',
    nargs=3,
    type=int,
    metavar='R G B',
    help='channels that are shown, from 0; by default the first three',
)
def view(
    folder: str | None, port: int, rgb: tuple[int, int, int] | None
) -> None:
    """Open a web page that shows what the pre-training in FOLDER has learned.

    Without FOLDER: of a small model that comes with the package.
    """
    from .checkpoint.zoo import root
    from .engine.run import training_of

    script = root() / 'tools/visualization/web.py'
    words = ['--port', str(port)]
    if folder is not None:
        config, checkpoint = training_of(folder)
        words += ['--config', str(config), '--checkpoint', checkpoint]
        more = ('--init', folder, '--out', 'classifier')
        then('saim', 'finetune', 'FOLDER_OF_CLASSES', *more)
    if rgb:
        words += ['--rgb', *map(str, rgb)]
    # As Python runs a script, which imports what lies beside it.
    sys.path.insert(0, str(script.parent))
    sys.argv = [str(script), *words]
    runpy.run_path(str(script), run_name='__main__')


@main.command()
@click.argument('folder')
@OUT
@click.option(
    '--init', multiple=True, help='also this folder of `saim pretrain`'
)
@click.option(
    '--fraction',
    'fractions',
    multiple=True,
    type=float,
    default=(0.1, 1.0),
    show_default=True,
    help='share of the labels; may be given more than once',
)
@click.option(
    '--seeds',
    default=3,
    show_default=True,
    help='repetitions, each with other labels',
)
@click.option('--pretrain-epochs', type=int, help='passes of the pre-training')
@ARCH
@SIZE
@PATCH
@CHANNELS
@click.option(
    '--epochs', type=int, help='passes of fine-tuning with all labels'
)
@OPTIONS
def compare(folder: str, out: str, **arguments: Any) -> None:
    """Find out whether pre-training helps on FOLDER of classes.

    Pre-trains on its images without their labels; then trains classifiers
    from that and from scratch, with several shares of the labels and seeds.
    The same command again goes on where it stopped. KEY=VALUE: any option of
    both configs, of the pre-training and of the fine-tuning.
    """
    from .engine.compare import compare

    def say(line: str) -> None:
        click.echo(line, err=True)

    with quietly():
        found = compare(folder, out, say=say, **arguments)
    click.echo(f'{found.table}\n{found.conclusion}')
    click.echo(f'wrote {out}/compare.md and compare.png', err=True)
    then(
        'saim',
        'finetune',
        folder,
        '--init',
        f'{out}/pretrain',
        '--out',
        'classifier',
    )


if __name__ == '__main__':
    main()
