"""Torture: hostile requests, provider answers, result files and faults, against a real system.

    python -m tests.torture --kind provider --seed 7 --seconds 60

`make torture` runs all kinds in three rounds. See `tests/torture/__main__.py`.
"""
