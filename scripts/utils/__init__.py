"""A package, so that no other `utils` on the path comes before it."""
