"""Pictures of what a pre-trained model predicts, and of what it looks at."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional, Union

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageOps
from torch import Tensor, nn

from .algorithm import SAIM
from .backbone import SAIMViT
from .data import MEAN, STD, read_image
from .errors import check
from .order import PredictionOrder
from .target import patchify, unpatchify


def load_images(paths: Sequence[str], size: tuple[int, int]) -> Tensor:
    """Load images, cut and scaled to a size.

    Args:
        paths (Sequence[str]): The files.
        size (tuple[int, int]): Height and width in pixels.

    Returns:
        Tensor: RGB, float32, 0 to 255, (B, 3, H, W).

    Raises:
        ValueError: If a file is no image.
    """
    images = []
    for path in paths:
        pixels = np.ascontiguousarray(read_image(path)[..., ::-1])
        fitted = ImageOps.fit(
            Image.fromarray(pixels), size[::-1], Image.Resampling.BICUBIC
        )
        images.append(torch.from_numpy(np.array(fitted)).permute(2, 0, 1))
    return torch.stack(images).float()


@torch.no_grad()
def reconstruct(
    model: SAIM, images: Tensor, order: Optional[PredictionOrder] = None
) -> tuple[Tensor, Tensor]:
    """Predict every patch from those before it (Fig. 3).

    A model that is trained on normalised patches does not predict their mean
    and contrast; these are taken from the target, as MAE's demo does.

    Args:
        model (SAIM): The model, in evaluation mode.
        images (Tensor): Pixels, RGB, 0 to 255, (B, 3, H, W).
        order (PredictionOrder, optional): Defaults to None, a new one.

    Returns:
        tuple[Tensor, Tensor]: The blurred images and the predicted ones,
        pixels as in ``images``.
    """
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    inputs = (images.to(mean.device) - mean) / std
    order = order or model.draw_order(inputs)
    patches = order.unsort(model.predict_patches(inputs, order))
    target = model.target_generator
    blurred = target.blur(inputs)
    if target.normalize:
        patch_mean, patch_std = target.statistics(
            patchify(blurred, target.patch_size)
        )
        patches = patches * patch_std + patch_mean
    predicted = unpatchify(
        patches, target.patch_size, model.backbone.patch_resolution
    )
    return tuple(x * std + mean for x in (blurred, predicted))


@torch.no_grad()
def reconstruct_mae(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """What mmpretrain's MAE makes of the patches that it is shown.

    Args:
        model (nn.Module): mmpretrain's ``MAE``, in evaluation mode.
        images (Tensor): Pixels, RGB, 0 to 255, (B, 3, H, W).

    Returns:
        tuple[Tensor, Tensor]: What it is shown, grey where nothing, and that
        with its predictions in place of the grey; pixels as in ``images``.
    """
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    inputs = (images.to(mean.device) - mean) / std
    latent, mask, ids_restore = model.backbone(inputs, mask=True)
    predicted = model.neck(latent, ids_restore)  # (B, L, P)
    patches = model.head.patchify(inputs)
    if model.head.norm_pix:
        variance = patches.var(dim=-1, keepdim=True)
        predicted = predicted * (variance + 1e-6) ** 0.5
        predicted = predicted + patches.mean(dim=-1, keepdim=True)
    hidden = mask.unsqueeze(-1)  # 1: not shown
    grey = (127.5 - mean) / std
    grey = model.head.patchify(grey.expand_as(inputs))
    return tuple(
        model.head.unpatchify(patches * (1 - hidden) + x * hidden) * std + mean
        for x in (grey, predicted)
    )


def draw_reconstructions(
    model: SAIM,
    images: Tensor,
    orders: Sequence[Optional[PredictionOrder]] = (None,),
    mae: Optional[nn.Module] = None,
) -> Figure:
    """Draw each image beside its blurred target and the prediction.

    Args:
        model (SAIM): The model, in evaluation mode.
        images (Tensor): Pixels, RGB, 0 to 255, (B, 3, H, W).
        orders (Sequence[PredictionOrder | None]): A row of predictions for
            each; None: a new one. Defaults to one new order.
        mae (nn.Module, optional): mmpretrain's ``MAE``; adds two rows.
            Defaults to None.

    Returns:
        Figure: One column for each image.
    """
    own = (
        "\n(each patch's own\nmean and contrast)"
        if model.target_generator.normalize
        else ''
    )
    rows: list[tuple[str, Tensor]] = [('original', images)]
    for number, order in enumerate(orders, start=1):
        blurred, predicted = reconstruct(model, images, order)
        if number == 1:
            rows.append(('blurred target', blurred))
        which = f'order {number}, ' if len(orders) > 1 else ''
        rows.append(
            (
                f'{which}prediction,\neach patch from\nthose before it{own}',
                predicted,
            )
        )
    if mae is not None:
        shown, predicted = reconstruct_mae(mae, images)
        own = '\n(own mean and contrast)' if mae.head.norm_pix else ''
        rows += [('MAE is shown', shown), (f'MAE predicts{own}', predicted)]
    figure = Figure(
        figsize=(1.3 * len(images) + 1.8, 1.4 * len(rows)),
        layout='constrained',
    )
    with matplotlib.rc_context({'font.size': 9}):
        axes = figure.subplots(len(rows), len(images), squeeze=False)
        for line, (title, pictures) in zip(axes, rows):
            line[0].set_ylabel(
                title, rotation=0, ha='right', va='center', fontsize=9
            )
            for axis, picture in zip(line, pictures.cpu()):
                show(axis, picture)
    return figure


def to_array(picture: Tensor) -> np.ndarray:
    """Pixels (3, H, W), 0 to 255, as uint8, (H, W, 3)."""
    return picture.detach().cpu().permute(1, 2, 0).clamp(0, 255).byte().numpy()


def figure_to_array(figure: Figure) -> np.ndarray:
    """A figure as pixels.

    Args:
        figure (Figure): The figure, drawn at its own resolution.

    Returns:
        ndarray: RGB, uint8, (height, width, 3).
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def show(axis: Axes, picture: Tensor, title: str = '') -> None:
    """Show pixels (3, H, W), 0 to 255, without ticks and frame."""
    axis.imshow(to_array(picture), interpolation='nearest')
    axis.set_title(title, fontsize=8)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def normalise(images: Tensor) -> Tensor:
    """Pixels, RGB, 0 to 255, (B, 3, H, W), as the backbone takes them."""
    mean, std = (images.new_tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    return (images - mean) / std


def check_point(
    point: tuple[int, int], size: tuple[int, int], patch_size: int
) -> int:
    """The raster index of the patch that a point is in.

    Args:
        point (tuple[int, int]): x and y in pixels.
        size (tuple[int, int]): Height and width of the image.
        patch_size (int): Side of a patch.

    Raises:
        ValueError: If the point is outside the image.
    """
    (x, y), (height, width) = point, size
    check(
        0 <= x < width and 0 <= y < height,
        'point',
        (x, y),
        f'within the image: x 0 to {width - 1}, y 0 to {height - 1}',
    )
    return y // patch_size * -(-width // patch_size) + x // patch_size


@torch.no_grad()
def attention_maps(vit: SAIMViT, images: Tensor) -> list[Tensor]:
    """The attention of every block (Fig. 4).

    Args:
        vit (SAIMViT): In evaluation mode; every block of it attends to the
            whole image.
        images (Tensor): (B, 3, H, W), normalised, of any size.

    Returns:
        list[Tensor]: Of each block (B, heads, T, T), the rows sum to 1; T is
        the class token, if there is one, and the patches in raster order.

    Raises:
        ValueError: If the backbone has windows or relative positions.
    """
    check(
        vit.whole_image,
        'backbone',
        'with windows or relative positions',
        'one whose blocks all attend to the whole image',
    )
    maps = []

    def look(attention: nn.Module, inputs: tuple) -> None:
        q, k, _ = attention.qkv(inputs[0]).chunk(3, dim=-1)
        q, k = (
            x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
            for x in (q, k)
        )
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        maps.append(scores.softmax(dim=-1))

    hooks = [
        layer.attn.register_forward_pre_hook(look) for layer in vit.layers
    ]
    try:
        vit(images)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


def attention_rollout(maps: Sequence[Tensor]) -> Tensor:
    """How much of each input token is in each output token.

    Abnar and Zuidema, "Quantifying Attention Flow in Transformers", 2020: the
    product of the blocks' mean attention, half of it the residual.

    Args:
        maps (Sequence[Tensor]): Of :func:`attention_maps`.

    Returns:
        Tensor: (B, T, T), the rows sum to 1.
    """
    rollout = None
    for weights in maps:
        mean = weights.mean(dim=1)
        eye = torch.eye(mean.shape[-1], device=mean.device)
        step = (mean + eye) / 2
        rollout = step if rollout is None else step @ rollout
    return rollout


def draw_attention(
    vit: SAIMViT,
    image: Tensor,
    points: Sequence[tuple[int, int]],
    layer: int = -1,
    heads: Optional[Sequence[int]] = None,
) -> Figure:
    """Draw where the patches at some points look (Fig. 4).

    Args:
        vit (SAIMViT): As for :func:`attention_maps`.
        image (Tensor): Pixels, RGB, 0 to 255, (3, H, W).
        points (Sequence[tuple[int, int]]): x and y in pixels.
        layer (int): The block, from 0, or from the end with -1. Defaults to
            -1.
        heads (Sequence[int], optional): The heads to draw, from 0. Defaults
            to None: all.

    Returns:
        Figure: A row for each point: the image with the point, attention
        rollout, the mean of the heads, each head.

    Raises:
        ValueError: If a point is outside the image, or there is no such
            block or head.
    """
    vit.check_layer(layer)
    number_of_heads = vit.layers[layer].attn.num_heads
    if heads is None:
        heads = range(number_of_heads)
    for head in heads:
        check(
            0 <= head < number_of_heads,
            'head',
            head,
            f'one of the {number_of_heads} heads, 0 to {number_of_heads - 1}',
        )
    size = tuple(image.shape[1:])
    indices = [check_point(p, size, vit.patch_size) for p in points]
    maps = attention_maps(vit, normalise(image.unsqueeze(0)))
    grid = [-(-s // vit.patch_size) for s in size]
    extra = vit.num_extra_tokens
    columns = {
        'rollout': attention_rollout(maps)[0],
        'mean of heads': maps[layer][0].mean(dim=0),
    }
    for head in heads:
        columns[f'head {head}'] = maps[layer][0, head]
    figure = Figure(
        figsize=(
            1.5 * (len(columns) + 1),
            (1.5 * size[0] / size[1] + 0.2) * len(points),
        ),
        layout='constrained',
    )
    axes = figure.subplots(len(points), len(columns) + 1, squeeze=False)
    for line, (x, y), index in zip(axes, points, indices):
        show(line[0], image, f'point {x}, {y}')
        line[0].plot(x, y, 'o', color='red', markeredgecolor='white')
        for axis, (title, weights) in zip(line[1:], columns.items()):
            seen = weights[extra + index, extra:].reshape(grid)
            seen = F.interpolate(
                seen[None, None], scale_factor=vit.patch_size, mode='bilinear'
            )[0, 0, : size[0], : size[1]]
            show(axis, image.mean(dim=0, keepdim=True).expand(3, -1, -1))
            # Of rollout most is in the patch itself: cut off the brightest.
            limit = seen.quantile(0.99).item()
            axis.imshow(seen.cpu(), cmap='viridis', alpha=0.7, vmax=limit)
            axis.set_title(title, fontsize=8)
    return figure


def draw_order(
    order: PredictionOrder,
    image: Tensor,
    patch_size: int,
    point: tuple[int, int],
) -> Figure:
    """Draw an order, its masks and what a patch may see (Fig. 5).

    Args:
        order (PredictionOrder): Of one image.
        image (Tensor): Pixels, RGB, 0 to 255, (3, H, W).
        patch_size (int): Side of a patch; divides H and W.
        point (tuple[int, int]): x and y, in pixels, of the patch.

    Returns:
        Figure: Four pictures.

    Raises:
        ValueError: If the point is outside the image.
    """
    size = tuple(image.shape[1:])
    rows, columns = (s // patch_size for s in size)
    index = check_point(point, size, patch_size)
    content, query = (mask[0].cpu() for mask in order.masks())
    step = order.indices[0].argsort().cpu()
    figure = Figure(figsize=(12, 3.4), layout='constrained')
    axes = figure.subplots(1, 4)

    show(axes[0], image, 'the order, dark to light')
    edges = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    axes[0].imshow(
        step.reshape(rows, columns), cmap='viridis', alpha=0.7, extent=edges
    )
    if rows * columns <= 144:
        for i, number in enumerate(step.tolist()):
            axes[0].text(
                (i % columns + 0.5) * patch_size,
                (i // columns + 0.5) * patch_size,
                number + 1,
                ha='center',
                va='center',
                color='white',
                fontsize=7,
            )
    for axis, mask, title in (
        (axes[1], content, 'content mask: patch i sees j,\nitself included'),
        (
            axes[2],
            query,
            'query mask: i is predicted from j,\nitself excluded',
        ),
    ):
        axis.imshow(mask, cmap='gray', interpolation='nearest')
        axis.set_title(title, fontsize=8)
        axis.set_xlabel('j', fontsize=8)
        axis.set_ylabel('i', fontsize=8)
        axis.tick_params(labelsize=7)
    seen = query[index].reshape(rows, columns)
    seen = seen.repeat_interleave(patch_size, 0)
    seen = seen.repeat_interleave(patch_size, 1)
    show(
        axes[3],
        torch.where(seen, image.cpu(), torch.full_like(image.cpu(), 220)),
        f'patch {step[index] + 1} of {rows * columns} is predicted\nfrom '
        'these and the class token',
    )
    y, x = (n * patch_size - 0.5 for n in divmod(index, columns))
    axes[3].add_patch(
        Rectangle((x, y), patch_size, patch_size, fill=False, ec='red', lw=2)
    )
    return figure


@torch.no_grad()
def complete(
    model: SAIM, image: Tensor, order: PredictionOrder, given: int
) -> Iterator[Tensor]:
    """Complete an image from its first patches, one patch after the other.

    Every prediction is the context of those after it. A model that is trained
    on normalised patches predicts neither their mean nor their contrast;
    these are then taken from the image (so it is no free generation).

    Args:
        model (SAIM): The model, in evaluation mode.
        image (Tensor): Pixels, RGB, 0 to 255, (3, H, W).
        order (PredictionOrder): Of the one image.
        given (int): How many patches are known, 0 to L.

    Yields:
        Tensor: Pixels as in ``image``, grey where nothing is yet; first with
        the patches given, then with one more each time.

    Raises:
        ValueError: If ``given`` is not as above.
    """
    mean = model.data_preprocessor.mean
    std = model.data_preprocessor.std
    target = model.target_generator
    size = target.patch_size
    inputs = (image.unsqueeze(0).to(mean.device) - mean) / std
    patches = patchify(inputs, size)
    number = patches.shape[1]
    check(0 <= given <= number, 'given', given, f'0 to {number}, the patches')
    if target.normalize:
        patch_mean, patch_std = target.statistics(
            patchify(target.blur(inputs), size)
        )
    grey = patchify(((127.5 - mean) / std).expand_as(inputs), size)
    steps = order.indices[0].tolist()
    canvas = grey.clone()
    for i in steps[:given]:
        canvas[:, i] = patches[:, i]

    def picture() -> Tensor:
        whole = unpatchify(canvas, size, model.backbone.patch_resolution)
        return (whole * std + mean)[0]

    yield picture()
    for step in range(given, number):
        whole = unpatchify(canvas, size, model.backbone.patch_resolution)
        predicted = model.predict_patches(whole, order)[:, step]
        i = steps[step]
        if target.normalize:
            predicted = predicted * patch_std[:, i] + patch_mean[:, i]
        canvas[:, i] = predicted
        yield picture()


def save_completion(
    path: Union[str, Path],
    model: SAIM,
    image: Tensor,
    order: PredictionOrder,
    given: int,
) -> None:
    """Write an animated GIF of :func:`complete`, at its end the original.

    Args:
        path (str | Path): The file. Its folder is made.
        model, image, order, given: As for :func:`complete`.

    Raises:
        ValueError: As :func:`complete`.
    """
    frames = [to_array(x) for x in complete(model, image, order, given)]
    frames.append(to_array(image))
    scale = max(1, 224 // max(image.shape[1:]))
    frames = [
        Image.fromarray(x.repeat(scale, 0).repeat(scale, 1)) for x in frames
    ]
    milliseconds = max(20, 5000 // len(frames))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(
        path,
        save_all=True,
        append_images=frames[1:],
        duration=[milliseconds] * (len(frames) - 2) + [1500, 1500],
        loop=0,
    )


def pca_colours(features: Tensor) -> Tensor:
    """Dense features as colours: their first three principal components.

    Args:
        features (Tensor): (N, C, rows, columns); the components are those of
            all N together, so a colour means the same in each.

    Returns:
        Tensor: 0 to 255, (N, 3, rows, columns).
    """
    number, channels, rows, columns = features.shape
    check(
        channels >= 3, 'features', tuple(features.shape), '3 channels at least'
    )
    flat = features.permute(0, 2, 3, 1).reshape(-1, channels).double()
    flat = flat - flat.mean(dim=0)
    _, _, directions = torch.linalg.svd(flat, full_matrices=False)
    # Of the two signs of each the one with more of the positive.
    directions = directions[:3] * directions[:3].sum(1, keepdim=True).sign()
    colours = flat @ directions.T
    low, high = colours.quantile(
        torch.tensor([0.01, 0.99], dtype=colours.dtype, device=colours.device),
        dim=0,
    )
    colours = ((colours - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return (
        (255 * colours)
        .float()
        .reshape(number, rows, columns, 3)
        .permute(0, 3, 1, 2)
    )


@torch.no_grad()
def draw_pca(vit: SAIMViT, images: Tensor, layer: int = -1) -> Figure:
    """Draw the dense features of images as colours.

    Args:
        vit (SAIMViT): In evaluation mode.
        images (Tensor): Pixels, RGB, 0 to 255, (B, 3, H, W).
        layer (int): The block, from 0, or from the end with -1. Defaults to
            -1.

    Returns:
        Figure: The images above their features.

    Raises:
        ValueError: If there is no such block.
    """
    features = vit.layer_output(normalise(images), layer, 'featmap')
    height, width = images.shape[2:]
    figure = Figure(
        figsize=(1.6 * len(images), 3.4 * height / width),
        layout='constrained',
    )
    axes = figure.subplots(2, len(images), squeeze=False)
    for column, image, colours in zip(axes.T, images, pca_colours(features)):
        show(column[0], image)
        show(column[1], colours)
    return figure
