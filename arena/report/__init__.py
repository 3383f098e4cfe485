"""The report on a results file: tables for the terminal, and one HTML page with replays."""

from arena.report.embed import Report
from arena.report.page import write_html
from arena.report.terminal import print_tables

__all__ = ["Report", "print_tables", "write_html"]
