"""How Sphinx builds the documentation: `make docs`.

`python docs/conf.py` writes zoo_table.md, a page of it, anew.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from saim_mm import __version__  # noqa: E402

project = 'saim_mm'
author = 'the saim_mm authors'
release = version = __version__
extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
html_theme = 'furo'
html_title = f'saim_mm {release}'
html_show_copyright = False
html_static_path = ['static']
html_css_files = ['tables.css']
exclude_patterns = ['_build']
myst_heading_anchors = 3
autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
# Base classes of the toolboxes document themselves in their own format.
autodoc_inherit_docstrings = False
# `make docs` installs neither: the classes on top of theirs are shown anyway.
autodoc_mock_imports = [x for x in ('mmdet', 'mmseg') if not find_spec(x)]


def zoo_table():
    """The models of configs/*/metafile.yml, as a page in Markdown."""
    lines = [
        '# Models\n',
        'What the `metafile.yml` of each folder of `configs/` lists (`python '
        'docs/conf.py`\nwrites this page). [How to get them](zoo.md), and '
        'what *(paper)* means.\n',
    ]
    for task in ('pretrain', 'classification', 'detection', 'segmentation'):
        path = ROOT / 'configs' / task / 'metafile.yml'
        last = 'weights' if task == 'pretrain' else 'results'
        lines += [
            f'## {task.capitalize()}\n',
            f'| name | parameters | {last} |',
            '| --- | --- | --- |',
        ]
        for model in yaml.safe_load(path.read_text())['Models']:
            metadata = model['Metadata']
            cells = [
                f'{name}: {value}'
                for result in model['Results'] or []
                for name, value in result['Metrics'].items()
            ]
            source = metadata.get('Results From', '').strip()
            if source.startswith('this code, '):  # the paper's are marked
                cells.append(f'({source.removeprefix("this code, ")})')
            if not model['Weights'].endswith('//none/'):
                cells.append('in the package')
            lines.append(
                f'| {model["Name"]} | {metadata["Parameters"] / 1e6:.1f} M '
                f'| {"<br>".join(cells)} |'
            )
        lines.append('')
    return '\n'.join(lines).rstrip('\n') + '\n'


# Sphinx runs this file, too, under another name: it changes no page.
if __name__ == '__main__':
    (Path(__file__).parent / 'zoo_table.md').write_text(zoo_table())
