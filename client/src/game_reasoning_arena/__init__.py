"""The import path of the original arena, kept for code that was written for it."""
