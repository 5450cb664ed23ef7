"""The project folder: a database, content-addressed objects, Parquet rows. Only the driver writes the database."""

from equipoise.workspace.objects import ObjectStore
from equipoise.workspace.rows import read_rows, write_rows
from equipoise.workspace.workspace import LogEntry, Opening, Workspace

__all__ = ["LogEntry", "ObjectStore", "Opening", "Workspace", "read_rows", "write_rows"]
