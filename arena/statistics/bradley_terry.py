"""The Bradley-Terry model with Firth's penalty, and profile likelihood intervals.

The expected score of a game is the logistic function of a sum of effects: the first player's
strength less the second's, and perhaps an effect of the seat. Equal games are joined to cells.
Firth's penalty (Firth 1993) adds to each cell as many drawn games as the cell has leverage:
over the whole table one for each free effect. So everybody has a finite strength, and there is
no prior whose scale somebody must choose.

Arrays have a first axis for several tables with the same cells: (tables, cells).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

Floats = NDArray[np.float64]

#: Largest step of an effect in one iteration, as a natural logarithm of odds.
_STEP = 1.5
_ROUNDS = 200
_PRECISE = 1e-11


class Design:
    """Which effects a cell has.

    rows: (cells, effects), with the effects' coefficients. Columns must be independent.
    """

    def __init__(self, rows: Floats) -> None:
        self.rows = csr_array(rows)
        self.effects = rows.shape[1]
        # The outer product of each row with itself, so that all information matrices are one
        # product: there are few effects in a row, but many rows and tables.
        place = [np.nonzero(row)[0] for row in rows]
        first = [np.repeat(found, len(found)) for found in place]
        second = [np.tile(found, len(found)) for found in place]
        cell = np.repeat(np.arange(len(rows)), [len(found) ** 2 for found in place])
        one, two = (np.concatenate([*parts, []]).astype(int) for parts in (first, second))
        self._outer = csr_array(
            (rows[cell, one] * rows[cell, two], (one * self.effects + two, cell)),
            shape=(self.effects**2, len(rows)),
        )

    def predict(self, effects: Floats) -> Floats:
        """Return the log odds of each cell. effects: (tables, effects)."""
        return np.asarray((self.rows @ effects.T).T)

    def collect(self, values: Floats) -> Floats:
        """Return the sum of the cells' values for each effect: (tables, effects)."""
        return np.asarray((self.rows.T @ values.T).T)

    def information(self, weights: Floats) -> Floats:
        """Return the information matrices of cells with these weights."""
        return np.asarray((self._outer @ weights.T).T).reshape(-1, self.effects, self.effects)

    def leverage(self, inverse: Floats) -> Floats:
        """Return the variance of each cell's log odds. inverse: the effects' covariance."""
        return np.asarray((self._outer.T @ inverse.reshape(len(inverse), -1).T).T)


@dataclass(frozen=True, slots=True)
class Fit:
    """The fitted model.

    effects: (tables, effects). games, points: of each cell, with the virtual draws; virtual:
    how many these are. expected: each cell's expected score. covariance: of the effects, if
    games are independent and none is drawn.
    """

    design: Design
    effects: Floats
    games: Floats
    points: Floats
    virtual: Floats
    expected: Floats
    covariance: Floats


def fit(design: Design, games: Floats, points: Floats) -> Fit:
    """Fit the model. games: the number in each cell. points: of the first player in them."""
    games, points = np.atleast_2d(games).astype(float), np.atleast_2d(points).astype(float)
    effects = np.zeros((len(games), design.effects))
    virtual = np.zeros_like(games)
    for _ in range(_ROUNDS):
        expected = expit(design.predict(effects))
        variance = expected * (1 - expected)
        inverse = _invert(design.information(games * variance + 1e-12 * (games > 0)))
        virtual = games * variance * design.leverage(inverse)
        step = _solve(
            design.information((games + virtual) * variance),
            design.collect(points + virtual / 2 - (games + virtual) * expected),
        )
        effects = effects + _shorten(step)
        if np.abs(step).max(initial=0) < _PRECISE:
            break
    expected = expit(design.predict(effects))
    information = design.information((games + virtual) * expected * (1 - expected))
    return Fit(
        design,
        effects,
        games + virtual,
        points + virtual / 2,
        virtual,
        expected,
        _invert(information),
    )


def profile(fitted: Fit, contrasts: Floats, drop: Floats) -> tuple[Floats, Floats]:
    """Return the profile likelihood interval of each contrast: two arrays (tables, contrasts).

    contrasts: (contrasts, effects). drop: by how much twice the log likelihood may fall, 3.84
    for 95 % if games are independent: (tables, contrasts).
    """
    low = _Profile(fitted, contrasts).search(drop, -1.0)
    return low, _Profile(fitted, contrasts).search(drop, 1.0)


def drop_at_zero(fitted: Fit, contrasts: Floats) -> Floats:
    """Return by how much twice the log likelihood falls if the contrast is 0."""
    profile = _Profile(fitted, contrasts)
    profile.move_to(np.zeros(len(profile.contrast)))
    return profile.shape(profile.drop())


class _Profile:
    """The best effects for given values of contrasts. Each row is one table and contrast."""

    def __init__(self, fitted: Fit, contrasts: Floats) -> None:
        tables, number = len(fitted.effects), len(contrasts)
        self._design = fitted.design
        self._size = (tables, number)
        self.contrast = np.tile(contrasts, (tables, 1))
        self._games = np.repeat(fitted.games, number, axis=0)
        self._points = np.repeat(fitted.points, number, axis=0)
        self._effects = np.repeat(fitted.effects, number, axis=0)
        self._top = _likelihood(self._games, self._points, self._design.predict(self._effects))
        self._value = self._contrast_of(self._effects)
        self._slope = np.zeros(len(self.contrast))

    def shape(self, values: Floats) -> Floats:
        """Return values of the rows as (tables, contrasts)."""
        return np.asarray(values.reshape(self._size))

    def drop(self) -> Floats:
        """Return twice the fall of the log likelihood from its top, at the present values."""
        log_odds = self._design.predict(self._effects)
        return 2 * (self._top - _likelihood(self._games, self._points, log_odds))

    def search(self, drop: Floats, side: float) -> Floats:
        """Return the value on one side at which the likelihood has fallen by `drop`."""
        wanted = np.broadcast_to(drop, self._size).ravel()
        start = self._value.copy()
        expected = expit(self._design.predict(self._effects))
        weights = self._games * expected * (1 - expected)
        direction = _solve(self._design.information(weights), self.contrast)
        deviation = np.sqrt(np.einsum("re,re->r", self.contrast, direction) * wanted)
        value = start + side * deviation
        for _ in range(_ROUNDS):
            self.move_to(value)
            missing = wanted - self.drop()
            # The fall is convex, so Newton's steps approach from outside.
            slope = np.where(side * self._slope > 0, self._slope, side * 1e-3)
            step = missing / (2 * slope)
            # No step crosses the top, where the slope changes its sign.
            value = start + side * np.maximum(side * (value + step - start), deviation / 50)
            if np.abs(step).max(initial=0) < 1e-9:
                break
        return self.shape(value)

    def move_to(self, value: Floats) -> None:
        """Give the contrasts these values, and all other effects their best values."""
        size = self._design.effects
        system = np.zeros((len(value), size + 1, size + 1))
        system[:, size, :size] = self.contrast
        system[:, :size, size] = -self.contrast
        for _ in range(_ROUNDS):
            log_odds = self._design.predict(self._effects)
            expected = expit(log_odds)
            # Not 1 - expected, which is 0 where the chance of a point is below 1e-16.
            weights = self._games * expected * expit(-log_odds)
            # Newton's step that also closes the gap. One system for both, because the information
            # alone is singular to rounding if the contrast is far out.
            system[:, :size, :size] = self._design.information(weights)
            gradient = self._design.collect(self._points - self._games * expected)
            gap = value - self._contrast_of(self._effects)
            solved = _solve(system, np.column_stack([gradient, gap]))
            step = solved[:, :size]
            self._effects = self._effects + _shorten(step)
            # How fast the log likelihood falls if the value grows.
            self._slope = solved[:, size]
            if np.abs(step).max(initial=0) < 1e-9:
                break

    def _contrast_of(self, effects: Floats) -> Floats:
        return np.asarray(np.einsum("re,re->r", self.contrast, effects))


def _likelihood(games: Floats, points: Floats, log_odds: Floats) -> Floats:
    won, lost = -np.logaddexp(0, -log_odds), -np.logaddexp(0, log_odds)
    return np.asarray((points * won + (games - points) * lost).sum(axis=-1))


def _invert(matrices: Floats) -> Floats:
    return np.asarray(np.linalg.inv(matrices), dtype=np.float64)


def _solve(matrices: Floats, vectors: Floats) -> Floats:
    return np.asarray(np.linalg.solve(matrices, vectors[..., None])[..., 0])


def _shorten(step: Floats) -> Floats:
    """Limit the largest component of each row's step."""
    longest = np.abs(step).max(axis=-1, keepdims=True, initial=0)
    return np.asarray(step * np.minimum(1.0, _STEP / np.maximum(longest, 1e-300)))
