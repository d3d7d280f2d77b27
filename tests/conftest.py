from pathlib import Path

import pytest

import saim_mm  # noqa: F401  registers everything

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser):
    parser.addoption('--slow', action='store_true', help='run slow tests too')


def pytest_collection_modifyitems(config, items):
    if not config.getoption('--slow'):
        skip = pytest.mark.skip(reason='slow: run with --slow')
        for item in items:
            if 'slow' in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    """Configs are named relative to the project, as users name them."""
    monkeypatch.chdir(ROOT)
