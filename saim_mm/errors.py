"""Errors that name the field, its value and what would be right."""

from typing import Any


def check(condition: bool, field: str, value: Any, right: str) -> None:
    """Refuse a value.

    Args:
        condition (bool): Whether the value is acceptable.
        field (str): The argument's name.
        value (Any): Its value.
        right (str): What would be acceptable, as it follows "must be".

    Raises:
        ValueError: If ``condition`` is false.
    """
    if not condition:
        raise ValueError(f'{field}={value!r}: must be {right}')
