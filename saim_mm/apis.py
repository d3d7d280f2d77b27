"""Models and features in a line of Python, without a config."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmpretrain.models import ClsDataPreprocessor
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from torch import Tensor, nn

from .checkpoint.weights import load_backbone_weights
from .datasets.images import EXTENSIONS, find_images, in_a_line, left_out
from .datasets.pixels import RGB, PixelFormat, pixel_format, read_pixels
from .evaluation.features import CenterCropResized, backbone_outputs
from .evaluation.readouts import build_readout
from .models.vit import SAIMViT
from .models.vit_arguments import check_layer
from .models.vit_outputs import layer_output
from .utils.check import check_arg, check_choice, check_positive_int

#: Files that are decoded at a time.
THREADS = min(8, os.cpu_count() or 1)
#: Name -> arguments of :class:`~saim_mm.SAIMViT`.
MODELS = {
    'saim_vit-tiny-p16': dict(arch='deit-tiny'),
    'saim_vit-small-p16': dict(arch='deit-small'),
    'saim_vit-base-p16': dict(arch='base'),
    'saim_vit-large-p16': dict(arch='large'),
    'saim_vit-tiny-p4': dict(arch='deit-tiny', img_size=32, patch_size=4),
    # Of the small studies, whose weights are in the package.
    'saim_vit-192x4-p8': dict(arch='saim-192x4', img_size=96, patch_size=8),
    'saim_vit-mini-p4': dict(arch='saim-mini', img_size=32, patch_size=4),
}


def list_models() -> list[str]:
    """Names that :func:`get_model` knows.

    Returns:
        The names.
    """
    return sorted(MODELS)


def get_model(
    name: str, pretrained: str | Path | None = None, **kwargs
) -> SAIMViT:
    """Build a backbone, with weights of this package or of others.

    Args:
        name: One of :func:`list_models`.
        pretrained: A checkpoint of any of the formats of
            :mod:`saim_mm.checkpoint.formats`, ``.pth`` or ``.safetensors``.
            Defaults to None: initialised as for pre-training.
        **kwargs: Other arguments of :class:`~saim_mm.SAIMViT`, such as
            ``img_size`` or ``out_type``.

    Returns:
        In evaluation mode.

    Raises:
        ValueError: If there is no such model, or the checkpoint has not
            exactly its weights.
        FileNotFoundError: If there is no such checkpoint.
    """
    check_choice('name', name, list_models())
    model = SAIMViT(**{**MODELS[name], **kwargs})
    if pretrained is None:
        model.init_weights()
    else:
        load_backbone_weights(model, pretrained)
    return model.eval()


class Batch(NamedTuple):
    """Of some images: what :meth:`FeatureExtractor.batches` gives."""

    #: Of those that could be read.
    names: list[str]
    #: float32, on the CPU, a row for each; None if there is none.
    features: Tensor | None
    #: What could not be read, (name, reason) each.
    skipped: list[tuple[str, str]]


class FeatureExtractor:
    """Features of images: files, folders, PIL images, arrays, lists of them.

    Images of another size than the model's are resized to cover 256/224 of
    it and cropped in the middle; all are normalised as in pre-training. A
    folder is searched with its sub-folders, and what cannot be read in it is
    skipped; a file that is asked for by its name must be readable.

    Args:
        model: A name of :func:`list_models`; the ``config.py`` of a training;
            or a backbone.
        pretrained: As for :func:`get_model`; needed with a name or config.
            Defaults to None: the weights that the backbone has.
        pixels: What its images are. Defaults to None: what the config says,
            or else RGB.
        **kwargs: As for :func:`get_model`, with a name or a config.

    Raises:
        ValueError: As :func:`get_model`.

    Example:
        >>> extract = saim_mm.FeatureExtractor('saim_vit-base-p16', 'saim.pth')
        >>> extract(['a.jpg', 'b.png']).shape
        torch.Size([2, 768])
        >>> extract('a.jpg', out_type='featmap', layer=5).shape
        torch.Size([1, 768, 14, 14])
        >>> names, features = extract('photos/', return_names=True)
        >>> extract = saim_mm.FeatureExtractor('run/config.py', 'run/last.pth')
    """

    out_types = ('cls_token', 'avg_featmap', 'featmap', 'raw')

    def __init__(
        self,
        model: str | Path | SAIMViT,
        pretrained: str | Path | None = None,
        device: str | torch.device = 'cpu',
        pixels: PixelFormat | None = None,
        **kwargs,
    ) -> None:
        if isinstance(model, (str, Path)) and Path(model).suffix == '.py':
            cfg = Config.fromfile(model)
            pixels = pixels or pixel_format(cfg)
            options = {**cfg.model.backbone, 'init_cfg': None, **kwargs}
            check_choice(
                f'{model}: model.backbone.type',
                options.pop('type'),
                ['SAIMViT', 'SimMIMViT'],
            )
            check_arg(
                pretrained is not None,
                'pretrained',
                None,
                'a checkpoint, such as the last of that training: a config '
                'has no weights',
            )
            model = SAIMViT(**options)
        elif isinstance(model, nn.Module):
            check_arg(
                not kwargs,
                'model',
                type(model).__name__,
                f'a name or a config, so that {kwargs} can be set',
            )
        if isinstance(model, str):
            check_arg(
                pretrained is not None,
                'pretrained',
                None,
                f'a checkpoint: {model!r} has no weights. (For random ones: '
                f'FeatureExtractor(get_model({model!r})))',
            )
            model = get_model(model, pretrained, **kwargs)
        elif pretrained is not None:
            load_backbone_weights(model, pretrained)
        self.model = model.to(device).eval()
        #: Of the last call: what could not be read, (name, reason) each.
        self.skipped: list[tuple[str, str]] = []
        self.pixels = pixels or RGB
        check_arg(
            model.in_channels == self.pixels.channels,
            'pixels.channels',
            self.pixels.channels,
            f"{model.in_channels}, the model's in_channels",
        )
        self.preprocessor = ClsDataPreprocessor(**self.pixels.scaling)
        self.preprocessor.to(device)
        self.pipeline = Compose(
            [
                CenterCropResized(model.img_size, self.pixels),
                TRANSFORMS.build(dict(type='PackInputs', meta_keys=())),
            ]
        )

    @torch.no_grad()
    def __call__(
        self,
        inputs: Any,
        out_type: str = 'cls_token',
        layer: int = -1,
        batch_size: int = 32,
        readout: str | dict | nn.Module | None = None,
        return_names: bool = False,
        skip_unreadable: bool | None = None,
    ) -> Tensor | tuple[list[str], Tensor]:
        """Extract features.

        Args:
            inputs: A file, a folder (its images and those of its sub-folders,
                sorted by name), a PIL image, an array as ``mmcv.imread`` gives
                it (uint8, (height, width, 3), BGR; for a model of other images
                (height, width, channels) of their type, RGB), or a list of
                these.
            out_type: 'cls_token' (N, C); 'avg_featmap', the mean over the
                patches, (N, C); 'featmap' (N, C, rows, columns); or 'raw',
                class token and patches, (N, L + 1, C).
            layer: Block, from 0, or from the end with -1. The final norm
                follows the last.
            batch_size: Images at a time.
            readout: One of the :mod:`~saim_mm.evaluation.readouts`, in place
                of ``out_type`` and ``layer``: 'cls_token', 'patch_mean', a
                config as ``dict(type='PatchMean', num_blocks=6)``, or a
                trained module. Gives (N, C).
            return_names: Whether to return the names of the N images too:
                the paths of files; of others their number in the list.
            skip_unreadable: Whether what is no image is left out: named in a
                warning and in ``skipped``, and without a row. None: of folders
                only, while a file or an array of its own is an error.

        Returns:
            float32, on the CPU; with ``return_names`` names and features.

        Raises:
            ValueError: If ``out_type`` or ``layer`` does not exist, an input
                is no image, or none of a folder is.
        """
        images = list_images(inputs)
        self.skipped = []
        names, features = [], []
        for part in self.batches(
            images, out_type, layer, batch_size, readout, skip_unreadable
        ):
            names += part.names
            self.skipped += part.skipped
            if part.names:
                features.append(part.features)
        warn_of_skipped(self.skipped, len(images))
        return (
            (names, torch.cat(features))
            if return_names
            else torch.cat(features)
        )

    @torch.no_grad()
    def batches(
        self,
        images: Iterable[tuple[str, Any, bool]],
        out_type: str = 'cls_token',
        layer: int = -1,
        batch_size: int = 32,
        readout: str | dict | nn.Module | None = None,
        skip_unreadable: bool | None = None,
    ) -> Iterator[Batch]:
        """Extract features, a batch at a time.

        Args:
            images: As :func:`list_images` gives them.
            out_type, layer, batch_size, readout, skip_unreadable: As above.

        Raises:
            ValueError: As above, but for a folder without readable images.
        """
        vit = self.model
        check_positive_int('batch_size', batch_size)
        if readout is not None:
            readout = build_readout(readout, vit.num_extra_tokens)
            readout = readout.to(vit.pos_embed.device)
        else:
            check_choice('out_type', out_type, self.out_types)
            check_arg(
                out_type != 'cls_token' or vit.with_cls_token,
                'out_type',
                out_type,
                "something else than 'cls_token': the model has no class "
                'token',
            )
            check_layer(vit, layer)

        def read(image: Any) -> dict | ValueError:
            try:
                pixels = read_pixels(image, self.pixels)
            except ValueError as error:
                return error
            return self.pipeline(dict(img=pixels))

        images = iter(images)
        while some := list(islice(images, batch_size)):
            names, skipped, batch = [], [], []
            given = [image for _, image, _ in some]
            # One PIL image may stand in a list twice; files are read apart.
            files = all(isinstance(image, (str, Path)) for image in given)
            with ThreadPoolExecutor(THREADS if files else 1) as pool:
                found = list(pool.map(read, given))
            for (name, _, in_folder), item in zip(some, found):
                if not isinstance(item, ValueError):
                    batch.append(item)
                    names.append(name)
                elif in_folder if skip_unreadable is None else skip_unreadable:
                    skipped.append((name, str(item)))
                else:
                    raise item
            features = None
            if batch:
                features = self._features(batch, out_type, layer, readout)
            yield Batch(names, features, skipped)

    def _features(
        self,
        batch: list[dict],
        out_type: str,
        layer: int,
        readout: nn.Module | None,
    ) -> Tensor:
        """Those of a batch, on the CPU."""
        images = self.preprocessor(default_collate(batch))['inputs']
        if readout is None:
            tokens = layer_output(self.model, images, layer, 'raw')
            return self._select(tokens, out_type).cpu()
        outputs = backbone_outputs(self.model, images, readout.num_blocks)
        return readout(outputs)[-1].cpu()

    def _select(self, tokens: Tensor, out_type: str) -> Tensor:
        """What is asked for of (B, L + 1, C) tokens."""
        if out_type == 'raw':
            return tokens
        if out_type == 'cls_token':
            return tokens[:, 0]
        patches = tokens[:, self.model.num_extra_tokens :]
        if out_type == 'avg_featmap':
            return patches.mean(dim=1)
        return patches.transpose(1, 2).unflatten(
            -1, self.model.patch_resolution
        )


def list_images(inputs: Any) -> list[tuple[str, Any, bool]]:
    """Inputs one by one: name, image, and whether it is of a folder.

    Raises:
        ValueError: If there is none, or none in a folder.
    """
    one = isinstance(inputs, (str, Path, np.ndarray, Image.Image))
    images: list[tuple[str, Any, bool]] = []
    for number, item in enumerate([inputs] if one else inputs):
        is_file = isinstance(item, (str, Path))
        if not (is_file and Path(item).is_dir()):
            images.append((str(item if is_file else number), item, False))
            continue
        found = find_images(Path(item))
        if not found:
            others = left_out(Path(item))
            others = others and f'; {others}'
            raise ValueError(
                f'inputs={str(item)!r}: the folder must hold at least one '
                f'image, with a name that ends in one of {sorted(EXTENSIONS)}'
                + others
            )
        images += [(str(path), path, True) for path in found]
    check_arg(len(images) > 0, 'inputs', inputs, 'at least one image')
    return images


def check_readable(skipped: list[tuple[str, str]], number: int) -> None:
    """Refuse images of which none can be read.

    Args:
        skipped: Names and reasons of those that cannot.
        number: How many images there are.

    Raises:
        ValueError: If it is all of them.
    """
    check_arg(
        len(skipped) < number,
        'images',
        [name for name, _ in skipped[:3]],
        'images that can be read; none of them can '
        f'({skipped[0][1] if skipped else ""})',
    )


def warn_of_skipped(skipped: list[tuple[str, str]], number: int) -> None:
    """Name what was skipped of a number of images, in one warning.

    Raises:
        ValueError: If it was all.
    """
    check_readable(skipped, number)
    if skipped:
        warnings.warn(
            f'{len(skipped)} of {number} images cannot be read and are '
            f'skipped: {", ".join(in_a_line(name) for name, _ in skipped)}',
            stacklevel=4,
        )
