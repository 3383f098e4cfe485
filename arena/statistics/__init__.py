"""Intervals, ratings and tests. Pure functions on arrays.

Nothing here knows a results file, a game or a player. A number becomes a result in two steps:
arena/report makes independent units of the episodes, and this package says what the units tell.
"""
