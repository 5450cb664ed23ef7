"""Kinds of engines, anatomies, learners and formats, found by entry point.

Ours are registered the same way as anybody's: a line under ``[project.entry-points."equipoise.engines"]``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from equipoise.errors import PlanError, UnknownKindError, did_you_mean

GROUPS = ("engines", "anatomies", "augmentations", "learners", "formats")
_LISTED_BY = {"engines": "equipoise engines", "anatomies": "equipoise engines"}
"""The command that lists a group; the reference that `equipoise docs` writes has all of them."""


def kinds(group: str) -> dict[str, EntryPoint]:
    """Return the registered kinds of a group, by name; nothing is imported."""
    if group not in GROUPS:
        raise UnknownKindError(f"there is no group {group!r}.{did_you_mean(group, GROUPS)}")
    return {entry.name: entry for entry in sorted(entry_points(group=f"equipoise.{group}"))}


def load(group: str, kind: str) -> Any:
    """Return the class or function registered as ``kind``; `UnknownKindError` names the nearest one."""
    known = kinds(group)
    if kind not in known:
        raise UnknownKindError(
            f"no {group[:-1] if group != 'anatomies' else 'anatomy'} is called {kind!r}.{did_you_mean(kind, known)}",
            fix=f"see `{_LISTED_BY.get(group, 'equipoise docs FILE')}`, or install the package that brings it",
        )
    return known[kind].load()


def make(group: str, spec: Mapping[str, Any] | str) -> Any:
    """Return an instance of a kind from its specification.

    Parameters
    ----------
    group
        One of `GROUPS`.
    spec
        ``{"kind": "diffusion", "steps": 20}``, or the bare name of a kind.

    Raises
    ------
    UnknownKindError, PlanError
        An unknown kind or parameter, with the nearest known name; a parameter of the wrong type.
    """
    fields: dict[str, Any] = {"kind": spec} if isinstance(spec, str) else dict(spec)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str):
        raise PlanError(f"the specification of one of the {group} must name its kind, got {spec!r}")
    cls = load(group, kind)
    hints = get_type_hints(cls)
    names = parameters(cls)
    for name in fields:
        if name not in names:
            raise PlanError(f"{kind!r} has no parameter {name!r}.{did_you_mean(name, names)}")
    return cls(**{name: _cast(value, hints[name], f"{kind}.{name}") for name, value in fields.items()})


def parameters(cls: Any) -> list[str]:
    """Return the names of a kind's parameters; fields that start with ``_`` hold what it has learned."""
    return [f.name for f in dataclasses.fields(cls) if f.init and not f.name.startswith("_")]


def require_types(thing: Any) -> None:
    """Raise `PlanError` unless every parameter of an instance has the type that it declares.

    `make` asks the same of a specification; a kind that says so in ``__post_init__`` asks it of Python callers too.
    """
    hints = get_type_hints(type(thing))
    for name in parameters(type(thing)):
        _cast(getattr(thing, name), hints[name], f"{thing.kind}.{name}")


def spec_of(thing: Any) -> dict[str, Any]:
    """Return the specification that `make` turns into an equal instance."""
    return {"kind": thing.kind, **{name: _plain(getattr(thing, name)) for name in parameters(type(thing))}}


def canonical(spec: Mapping[str, Any]) -> str:
    """Return a specification as JSON with one spelling, to be hashed and stored."""
    return json.dumps(_plain(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _cast(value: Any, hint: Any, name: str) -> Any:
    """Return a TOML value as the type that a parameter declares, or raise `PlanError`."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        return _cast_union(value, inner, name)
    if origin is Literal:
        if value in inner:
            return value
        near = did_you_mean(str(value), map(str, inner))
        raise PlanError(f"{name} must be one of {list(inner)}, got {value!r}.{near}")
    if origin is tuple and isinstance(value, (list, tuple)):
        each = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is Ellipsis else list(inner)
        if len(each) == len(value):
            return tuple(_cast(v, h, f"{name}[{i}]") for i, (v, h) in enumerate(zip(value, each, strict=True)))
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return value
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise PlanError(f"{name} must be {_described(hint)}, got {value!r}")


def _described(hint: Any) -> str:
    """Return a type as a plan's author knows it."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:
        many = "" if len(inner) == 2 and inner[1] is Ellipsis else f" of {len(inner)}"
        return f"a list{many}, [...]"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a table, { name = ... }"
    return str(getattr(hint, "__name__", hint))


def _cast_union(value: Any, options: tuple[Any, ...], name: str) -> Any:
    if value is None and NoneType in options:
        return None
    problems: list[str] = []
    for option in options:
        try:
            return _cast(value, option, name)
        except PlanError as error:
            problems.append(error.message)
    raise PlanError(problems[0] if len(problems) == 1 else f"{name} got {value!r}: " + "; or ".join(problems))
