"""The model zoo: what model-index.yml lists, and the weights in the package.

``saim_mm://NAME`` stands for the weights of a model wherever a checkpoint is
given. After :func:`register_zoo` ``mmpretrain.get_model(NAME,
pretrained=True)`` works.
"""

from __future__ import annotations

import re
from pathlib import Path

from mmpretrain.apis import ModelHub

SCHEME = 'saim_mm://'


PACKAGE = Path(__file__).parents[1]
WEIGHTS = PACKAGE / 'weights'


#: What the tools use if no model is given.
DEMO = 'saim_vit-192x4-p8_1xb32-coslr-2000i_camvid'


def root() -> Path:
    """The folder of ``model-index.yml`` and ``configs``.

    Returns:
        ``.mim`` in an installed package, the checkout otherwise.
    """
    installed = PACKAGE / '.mim'
    return installed if installed.is_dir() else PACKAGE.parent


def bundled() -> list[str]:
    """The models whose weights are in the package.

    Returns:
        Names of models, which are those of their configs.
    """
    return sorted(path.stem for path in WEIGHTS.glob('*.safetensors'))


def resolve(checkpoint: str | Path) -> Path:
    """The file of a checkpoint, which may be ``saim_mm://NAME``.

    Returns:
        The file; it may not exist, unless it is one of the package.

    Raises:
        ValueError: If the package has no weights of that name.
    """
    # A Path makes one slash of two.
    found = re.fullmatch('saim_mm:/+(.*?)/?', str(checkpoint))
    if not found:
        return Path(checkpoint).expanduser()
    name = found[1]
    path = WEIGHTS / f'{name}.safetensors'
    if name not in bundled():
        raise ValueError(
            f'checkpoint={str(checkpoint)!r}: the package has no weights of '
            f'that name, only those of {bundled()}; others have to be '
            'trained: give the file then (pretrained=FILE in mmpretrain)'
        )
    return path


def register_zoo() -> None:
    """Tell mmpretrain the models that it can build."""
    for task in ('pretrain', 'classification'):
        path = root() / 'configs' / task / 'metafile.yml'
        if path.is_file():
            ModelHub.register_model_index(path, config_prefix=root())
    for name, model in ModelHub._models_dict.items():
        if model.weights == f'{SCHEME}none/':
            # What pretrained=True then asks for, and the error names.
            model.weights = f'{SCHEME}{name}/'
