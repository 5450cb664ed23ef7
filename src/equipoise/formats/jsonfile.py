"""Reads the JSON lists that data sets come with, with one clear error where they are not what they should be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.errors import LabelError, UnreadableFileError, did_you_mean
from equipoise.formats.headers import require_file


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; `UnreadableFileError` if it holds none."""
    require_file(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UnreadableFileError("the file is not UTF-8 text", file=path, fix="save it as UTF-8") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise UnreadableFileError(
            f"the file is no valid JSON: {error}",
            file=path,
            why="it is cut short or was edited by hand",
            fix="correct it",
        ) from error
    if not isinstance(content, dict):
        raise UnreadableFileError(f"an object {{…}} is needed, the file holds a {type(content).__name__}", file=path)
    return content


def json_part(content: Mapping[str, Any], key: str, kind: type, path: Path) -> Any:
    """Return a part of a JSON object that must be there and of one type."""
    if key not in content:
        raise UnreadableFileError(f"there is no `{key}` in the file.{did_you_mean(key, content)}", file=path)
    if not isinstance(content[key], kind):
        raise UnreadableFileError(f"`{key}` must be a {kind.__name__}, got {type(content[key]).__name__}", file=path)
    return content[key]


def labels_of(labels: Mapping[str, Any], path: Path) -> dict[str, int | list[int]]:
    """Return names and numbers without the background, whichever way round the file writes them.

    The decathlon writes ``{"1": "liver"}``, nnU-Net v2 ``{"liver": 1}`` and, for regions, ``{"whole": [1, 2]}``.
    """
    named: dict[str, int | list[int]] = {}
    for key, value in labels.items():
        name, number = (value, key) if isinstance(value, str) and not _whole(value) else (key, value)
        numbers = [_number(n, path) for n in (number if isinstance(number, list) else [number])]
        if numbers == [0]:
            continue
        if name in named:
            raise LabelError(f"two labels are called {name!r}", file=path, fix="rename one")
        named[name] = numbers if isinstance(number, list) else numbers[0]
    if not named:
        raise LabelError(f"`labels` names no structure, only {dict(labels)}", file=path)
    return named


def _whole(text: str) -> bool:
    return text.strip().lstrip("-").isdigit()


def _number(value: Any, path: Path) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _whole(value):
        return int(value)
    raise LabelError(f"a label's number must be whole, got {value!r}", file=path)
