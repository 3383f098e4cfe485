"""What a results file says: tables for the terminal, one page for the browser."""

from arena.report.page import write_html
from arena.report.report import Report
from arena.report.tables import print_tables

__all__ = ["Report", "print_tables", "write_html"]
