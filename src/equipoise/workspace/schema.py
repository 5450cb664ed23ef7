"""The tables of ``equipoise.db``. A change here needs a migration under ``migrations/versions``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Table(DeclarativeBase):
    """Root of the tables."""

    type_annotation_map = {dict[str, Any]: JSON}  # noqa: RUF012 - read by SQLAlchemy as a class variable


class PlanRow(Table):
    """A plan that was run here."""

    __tablename__ = "plan"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    sealed: Mapped[dict[str, Any]]
    created: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class TaskRow(Table):
    """A finished task: `rows` is the SHA-256 of its Parquet file, its objects are in the store."""

    __tablename__ = "task"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    rows: Mapped[str | None] = mapped_column(String(64))
    result: Mapped[dict[str, Any]]
    seconds: Mapped[float]
    finished: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class LogRow(Table):
    """One line of the append-only log; each holds the hash of the one before."""

    __tablename__ = "log"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    time: Mapped[str] = mapped_column(String(40))
    what: Mapped[str] = mapped_column(String(64))
    detail: Mapped[dict[str, Any]]
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class OpeningRow(Table):
    """One opening of a sealed test set."""

    __tablename__ = "opening"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    test_set: Mapped[str] = mapped_column(String(64), index=True)
    plan: Mapped[str] = mapped_column(ForeignKey("plan.hash"), unique=True)
    opened: Mapped[datetime] = mapped_column(DateTime(timezone=True))
