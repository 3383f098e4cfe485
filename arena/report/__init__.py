"""The report on a results file: tables for the terminal, and one HTML page with replays."""
