"""``equipoise docs``: the reference of commands, plan keys and kinds, written from the code itself."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.main import get_command

from equipoise.core.registry import GROUPS, kinds, load, parameters
from equipoise.experiment.plan import EnginePlan, Plan


def write(app: typer.Typer, out: Path) -> None:
    """Write the reference as Markdown."""
    parts = ["# Reference", "", "Written by `make docs` from the code; do not edit.", ""]
    parts += ["## Commands", "", *_commands(get_command(app), "equipoise")]
    parts += ["## The plan", "", *_section(Plan, "")]
    for group in GROUPS:
        parts += [f"## {group.capitalize()}", "", *_kinds(group)]
    out.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def _commands(command: Any, name: str) -> list[str]:
    if hasattr(command, "commands"):
        # A group that does something by itself, such as `equipoise engines`, is a command as well.
        own = _command(command, name) if command.invoke_without_command and " " in name else []
        return own + [line for sub, child in command.commands.items() for line in _commands(child, f"{name} {sub}")]
    return _command(command, name)


def _command(command: Any, name: str) -> list[str]:
    lines = [f"### `{name}`", "", (command.help or "").strip(), ""]
    for parameter in command.params:
        names = ", ".join(f"`{opt}`" for opt in (*parameter.opts, *parameter.secondary_opts))
        described = getattr(parameter, "help", None) or ""
        lines.append(f"- {names}: {described}")
    return [*lines, ""]


def _section(model: type[BaseModel], where: str) -> list[str]:
    title = f"### `[{where}]`" if where else "### Top level"
    lines = [title, "", inspect.cleandoc(model.__doc__ or ""), ""]
    below: list[str] = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            below += _section(inner, f"{where}.{name}" if where else name)
        elif name == "engines":
            below += _section(EnginePlan, "engines.NAME")
        else:
            default = "required" if field.default is PydanticUndefined else f"default `{field.default!r}`"
            lines.append(f"- `{name}`: {_type(inner)}, {default}")
    return [*lines, "", *below]


def _kinds(group: str) -> list[str]:
    lines: list[str] = []
    for kind in kinds(group):
        cls = load(group, kind)
        lines += [f"### `{kind}`", "", inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0], ""]
        defaults = {f.name: f for f in dataclasses.fields(cls)}
        for name in parameters(cls):
            field = defaults[name]
            value = field.default if field.default is not dataclasses.MISSING else None
            if field.default_factory is not dataclasses.MISSING:
                value = field.default_factory()
            lines.append(f"- `{name}`: default `{value!r}`")
        lines.append("")
    return lines


def _type(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return f"`{text.replace('typing.', '')}`"
