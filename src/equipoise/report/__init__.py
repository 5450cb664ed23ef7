"""The report: one self-contained HTML page and the same findings as JSON beside it."""

from equipoise.report.page import render, write_report
from equipoise.report.pictures import picture

__all__ = ["picture", "render", "write_report"]
