"""The results of an experiment: one SQLite file."""
