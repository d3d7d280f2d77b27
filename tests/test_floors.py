"""The house stands: who imports whom, and how long a file may be."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest
from helpers import ROOT

PACKAGE = ROOT / 'saim_mm'
#: Room -> floor. A file imports from its own room, its own floor or below.
FLOORS = {
    **dict(version=0, utils=0),
    **dict(models=1, datasets=1, checkpoint=1),
    **dict(visualization=2, apis=2, evaluation=2, detection=2, segmentation=2),
    'engine': 3,
    **dict(__init__=4, cli=4),
}
#: Of these no room knows another of the same floor.
SIDE_BY_SIDE = 1
MAX_LINES = 400
MAX_CLASS = 250


def modules(package):
    """Dotted name within the package -> file; a folder's is __init__'s."""
    found = {}
    for path in package.rglob('*.py'):
        parts = path.relative_to(package).with_suffix('').parts
        if len(parts) > 1 and parts[-1] == '__init__':
            parts = parts[:-1]
        found['.'.join(parts)] = path
    return found


def imports(package):
    """Name -> names of what it imports of the package, wherever in a file."""
    files = modules(package)
    graph = {}
    for name, path in files.items():
        folder = list(path.relative_to(package).parts[:-1])
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            targets = []
            if isinstance(node, ast.Import):
                targets = [
                    alias.name.split('.')[1:] or ['__init__']
                    for alias in node.names
                    if alias.name.split('.')[0] == package.name
                ]
            elif isinstance(node, ast.ImportFrom):
                base = (node.module or '').split('.') if node.module else []
                if node.level:
                    base = folder[: len(folder) - node.level + 1] + base
                elif base[:1] == [package.name]:
                    base = base[1:]
                else:
                    continue
                # `from . import x`: x may be a file, or a name of __init__.
                targets = [
                    [*base, alias.name]
                    if '.'.join([*base, alias.name]) in files
                    else base or ['__init__']
                    for alias in node.names
                ]
            graph[name] |= {'.'.join(target) for target in targets} - {name}
    return graph


def room(name):
    return name.split('.')[0]


def upward(package):
    """Imports that no floor plan allows: [(who, whom)]."""
    wrong = []
    for name, targets in imports(package).items():
        for target in targets:
            mine, theirs = FLOORS[room(name)], FLOORS[room(target)]
            beside = mine == theirs == SIDE_BY_SIDE
            if room(name) != room(target) and (theirs > mine or beside):
                wrong.append((name, target))
    return sorted(wrong)


def circle(package):
    """The files of a circle of imports, or nothing."""
    try:
        TopologicalSorter(imports(package)).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def too_long(package):
    """Files and classes over the limits: [(name, lines)]."""
    wrong = []
    for path in sorted(package.rglob('*.py')):
        text = path.read_text()
        name = str(path.relative_to(package))
        if (lines := len(text.splitlines())) > MAX_LINES:
            wrong.append((name, lines))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_CLASS:
                    wrong.append((f'{name}: {node.name}', lines))
    return wrong


def test_no_file_imports_upwards():
    assert upward(PACKAGE) == []


def test_no_circle_of_imports():
    assert circle(PACKAGE) == []


def test_no_file_and_no_class_is_too_long():
    assert too_long(PACKAGE) == []


def test_every_room_is_on_a_floor_and_is_read():
    graph = imports(PACKAGE)
    assert {room(name) for name in graph} == set(FLOORS)
    # What is known to be there, one by each way of writing it.
    assert 'utils.check' in graph['models.saim']
    assert 'models.saim' in graph['engine.fsdp']
    assert 'detection.coco_format' in graph['detection']
    assert 'engine.runner' in graph['__init__']


@pytest.fixture
def house(tmp_path):
    """A package to be spoilt: writes a file of it."""

    def write(name, text):
        path = tmp_path / 'saim_mm' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return tmp_path / 'saim_mm'

    write('__init__.py', 'from .models import vit\n')
    for folder in ('utils', 'models', 'checkpoint', 'engine', 'engine/hooks'):
        write(f'{folder}/__init__.py', '')
    write('utils/check.py', 'import os\n')
    write('checkpoint/loader.py', 'from ..utils.check import check_arg\n')
    write('engine/runner.py', 'from ..models import vit\n')
    package = write('models/vit.py', 'from ..utils import check\n')
    assert upward(package) == circle(package) == too_long(package) == []
    return write


@pytest.mark.parametrize(
    'name, text, found',
    [
        ('utils/check.py', 'from ..models.vit import V', 'models.vit'),
        ('utils/check.py', 'from ..models import vit', 'models.vit'),
        ('utils/check.py', 'import saim_mm.engine.runner', 'engine.runner'),
        ('utils/check.py', 'import saim_mm', '__init__'),
        ('utils/check.py', 'from .. import models', 'models'),
        ('models/vit.py', 'from ..checkpoint import loader', '*'),
        ('models/vit.py', 'def f():\n    from saim_mm.engine import x', '*'),
        ('engine/hooks/a.py', 'from ... import SAIM', '__init__'),
    ],
)
def test_an_upward_import_is_seen(house, name, text, found):
    package = house(name, text)
    [(who, whom)] = upward(package)
    assert who == name.removesuffix('.py').replace('/', '.')
    assert found in (whom, '*')


def test_a_circle_is_seen(house):
    house('models/head.py', 'from .vit import V')
    package = house('models/vit.py', 'def f():\n    from . import head')
    assert set(circle(package)) == {'models.head', 'models.vit'}


def test_what_is_too_long_is_seen(house):
    body = 'class A:\n' + '    x = 1\n' * MAX_CLASS
    package = house('models/long.py', body)
    assert too_long(package) == [('models/long.py: A', MAX_CLASS + 1)]
    package = house('models/long.py', 'x = 1\n' * (MAX_LINES + 1))
    assert too_long(package) == [('models/long.py', MAX_LINES + 1)]


def test_what_scripts_share_has_a_name_of_its_own():
    """One process may run scripts of several folders: sys.path is one."""
    scripts = sorted(ROOT.glob('tools/**/*.py'))
    shared = {
        path.parent / f'{node.module}.py'
        for path in scripts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    } & set(scripts)
    assert len(shared) > 3
    for path in shared:
        same = [other for other in scripts if other.name == path.name]
        assert same == [path], f'{path.name} is in several folders of tools'
