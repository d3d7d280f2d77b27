from pathlib import Path

import pytest

import saim_mm  # noqa: F401  registers everything

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    """Configs are named relative to the project, as users name them."""
    monkeypatch.chdir(ROOT)
