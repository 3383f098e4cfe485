"""A package, so that it takes precedence over other `utils` on the path."""
