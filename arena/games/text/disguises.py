"""Disguises: the words of known games in other words (see arena/games/disguise.py).

The rules are complete, because a model cannot know them. By default the position is the original's
text with other words. Some disguises draw it differently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import pyspiel

from arena.games.disguise import NUMBERINGS, Rename, register_disguise
from arena.games.state import CHANCE, LegalAction, State
from arena.games.text.base import GameText, player


class DisguiseText(GameText):
    """Describes a disguise with the original's position.

    original: OpenSpiel's name. words: what replaces the original's words.
    """

    original: ClassVar[str]
    words: ClassVar[Mapping[str, str]] = {}

    def __init__(self, game: pyspiel.Game) -> None:
        from arena.games.text import find_text  # this package loads this module

        self._original = pyspiel.load_game(self.original)
        self._text = find_text(self._original)
        self._pattern = re.compile("|".join(rf"\b{word}\b" for word in self.words) or r"(?!)")

    def position(self, state: State, seat: int) -> str:
        return self._reword(self._text.position(self._undisguise(state), seat))

    def note(self, state: State, seat: int, action: LegalAction) -> str:
        before = self._undisguise(state)
        number = self._to_original(action.action)
        name = before.raw.action_to_string(seat, number)
        return self._reword(self._text.note(before, seat, LegalAction(number, name)))

    def board(self, state: State) -> str:
        return self._reword(self._text.board(self._undisguise(state)))

    def _reword(self, text: str) -> str:
        return self._pattern.sub(lambda match: self.words[match[0]], text)

    def _undisguise(self, state: State) -> State:
        """Return the original's position. Only for games in which the players move in turn."""
        original = State(self._original.new_initial_state())
        for played in state.history:
            action = played.action
            is_chance = played.seat == CHANCE
            original.apply({played.seat: action if is_chance else self._to_original(action)})
        return original

    def _to_original(self, action: int) -> int:
        return NUMBERINGS[self.games[0]].to_original(action)


#: The number of each cell of tic-tac-toe: those of a line add up to 15.
_NUMBERS = (2, 7, 6, 9, 5, 1, 4, 3, 8)
#: The cells in the order of their numbers. In their own order they would reveal the magic square.
_CELLS = tuple(_NUMBERS.index(number) for number in range(1, 10))


class FifteenText(DisguiseText):
    games = ("arena_fifteen",)
    original = "tic_tac_toe"
    rules = """\
Game: Fifteen.
Rules: the numbers from 1 to 9 lie on the table. Two players take turns to take one of them; \
player 0 starts. The first player who holds three numbers that add up to exactly 15 wins; further \
numbers of the player do not matter. If all numbers are taken and nobody holds three such \
numbers, the game is a draw.
Actions: the number to take.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def position(self, state: State, seat: int) -> str:
        return self.board(state)

    def board(self, state: State) -> str:
        taken: list[list[int]] = [[], []]
        for played in state.history:
            taken[played.seat].append(int(played.text))
        free = sorted({*_NUMBERS}.difference(*taken))
        lines = [f"Numbers of {player(seat)}: {_list(own)}" for seat, own in enumerate(taken)]
        return "\n".join((*lines, f"Still on the table: {_list(free)}"))


def _list(items: list[int] | list[str]) -> str:
    return ", ".join(map(str, items)) or "none"


_BLOCKS = ("red", "blue")
#: Not A to G, which name the columns of connect four as well.
_TOWERS = "PQRSTUV"


class TowersText(DisguiseText):
    games = ("arena_towers",)
    original = "connect_four"
    rules = """\
Game: Towers.
Rules: seven towers, P to V, stand side by side in this order. All are empty at the start. Two \
players take turns to put a block of their color on top of a tower: player 0 has red blocks and \
starts, player 1 has blue blocks. A tower can hold six blocks. The first player with a run of \
four blocks of the same color wins. A run is four blocks on top of each other in one tower, or \
one block in each of four neighboring towers, where the height either stays the same, rises by \
one from tower to tower, or falls by one from tower to tower. If all towers are full and nobody \
has a run, the game is a draw.
Actions: the letter of the tower.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def side(self, seat: int) -> str:
        return f"You are player {seat}. Your blocks are {_BLOCKS[seat]}."

    def position(self, state: State, seat: int) -> str:
        return f"The blocks of each tower, from the bottom to the top:\n{self.board(state)}"

    def board(self, state: State) -> str:
        towers: list[list[str]] = [[] for _ in range(7)]
        for played in state.history:
            towers[played.action].append(_BLOCKS[played.seat])
        rows = zip(_TOWERS, towers, strict=True)
        return "\n".join(f"{name}: {_list(own)}" for name, own in rows)


class SealsText(DisguiseText):
    games = ("arena_seals",)
    original = "kuhn_poker"
    words: ClassVar = {
        "card": "seal", "Jack": "Lead", "Queen": "Silver", "King": "Gold",
        "Betting": "Moves", "Pot": "Bowl", "chips": "coins", "Pass": "Hold", "Bet": "Add",
        "Check": "keep", "Fold": "leave", "Call": "match",
    }  # fmt: skip
    rules = """\
Game: Three seals.
Rules: there are three seals: Lead, Silver and Gold, from the least to the most valuable. Each of \
the two players puts 1 coin into a bowl and is given one seal, which the other player does not \
see; the third seal is set aside. Player 0 moves first. As long as nobody has added a coin, Hold \
keeps the bowl unchanged, and Add puts 1 more coin into it. Once a player has added a coin, the \
other one makes a last move: Hold leaves the game and gives up the bowl; Add puts in 1 coin as \
well. The game also ends when both players have held. If nobody has left, the more valuable seal \
wins the bowl.
Actions: Add or Hold.
Returns: the coins a player wins or loses overall, including the coins put in."""


class TwinStonesText(DisguiseText):
    games = ("arena_twin_stones",)
    original = "leduc_poker"
    words: ClassVar = {
        "card": "stone", "Public": "Open", "Jack": "Amber", "Queen": "Jade", "King": "Ruby",
        "Betting": "Moves", "Chips": "Coins", "chips": "coins", "Fold": "Quit", "Call": "Match",
        "Raise": "Push", "check": "pass",
    }  # fmt: skip
    rules = """\
Game: Twin stones.
Rules: a bag holds six stones: two of Amber, two of Jade and two of Ruby. Amber is worth least, \
Ruby most. Each of the two players puts 1 coin into a bowl and draws one stone, which the other \
player does not see. After a first round of moves an open stone is drawn for both, and a second \
round follows. Player 0 moves first in each round. Match puts in as many coins as the other \
player is ahead; if nobody is ahead, it passes. Push matches and adds 2 coins in the first round, \
4 in the second; both players together may push at most twice in a round. Quit gives up the \
bowl; it is only possible if the other player is ahead. A round ends when both have moved and \
have put in the same number of coins. If a player quits, the other one wins the bowl. Otherwise \
a stone of the same kind as the open stone wins against any other, and without such a stone the \
one that is worth more wins; with equal stones the players share the bowl.
Actions: Match, Push or Quit.
Returns: the coins a player wins or loses overall, including the coins put in."""


_LETTERS = "ABCDEF"


class SealedTokensText(DisguiseText):
    games = ("arena_sealed_tokens",)
    original = "liars_dice"
    rules = """\
Game: Sealed tokens.
Rules: each of the two players draws a token at random. It bears a letter from A to F, which only \
its owner sees. Players take turns, starting with player 0. On each turn a player either makes a \
claim or, after the first claim, says Doubt. A claim says that at least that many of the two \
tokens bear a certain letter. Each claim must go beyond the last one: a larger number with any \
letter, or the same number with a later letter of the alphabet. A token with an F counts as every \
letter. Doubt challenges the last claim and ends the game: both tokens are shown. If the claim \
holds, the player who made it wins; otherwise the player who said Doubt wins.
Actions: a claim as number and letter, or Doubt. 2C says that both tokens bear a C.
Returns: 1 for a win, -1 for a loss."""

    def position(self, state: State, seat: int) -> str:
        return f"Your token: {self._token(state, seat)}\n{self._claims(state)}"

    def note(self, state: State, seat: int, action: LegalAction) -> str:
        return ""

    def board(self, state: State) -> str:
        tokens = (f"{player(seat)}: {self._token(state, seat)}" for seat in range(2))
        return "\n".join((*tokens, self._claims(state)))

    def _token(self, state: State, seat: int) -> str:
        drawn = [played.action for played in state.history if played.seat == CHANCE]
        return _LETTERS[drawn[seat]] if seat < len(drawn) else "none yet"

    def _claims(self, state: State) -> str:
        claims = [f"{player(p.seat)}: {p.text}" for p in state.history if p.seat != CHANCE]
        return f"Claims so far: {_list(claims)}"


#: The columns of hex, and of pipes.
_PLOTS = str.maketrans("abcdefghijk", "PQRSTUVWXYZ")


class PipesText(DisguiseText):
    games = ("arena_pipes",)
    original = "hex"
    rules = """\
Game: Pipes, on a field with 11 rows and 11 columns of plots.
Rules: two players take turns to lay a pipe on an empty plot. Player 0 lays pipes # and starts; \
player 1 lays pipes @. Player 0 wins with a chain of # from the top row (1) to the bottom row \
(11), player 1 with a chain of @ from the leftmost column (P) to the rightmost column (Z). A \
chain is a number of plots of which each adjoins the next. There are no draws.
Each row is drawn half a plot further to the right than the row above it. A plot adjoins up to \
six others: those to its left and right; above it, the plots in the same column and in the next \
column to the right; below it, the plots in the same column and in the next column to the left. \
For example, 2Q adjoins 2P, 2R, 1Q, 1R, 3Q and 3P.
Actions: the row's number and the column's letter. 1P is the top left plot, 11Z the bottom right \
plot.
Returns: 1 for a win, -1 for a loss."""

    def side(self, seat: int) -> str:
        ends = ("the top row and the bottom row", "the leftmost and the rightmost column")[seat]
        return f"You are player {seat}. Your pipes are {'#@'[seat]}; they must connect {ends}."

    def position(self, state: State, seat: int) -> str:
        return f"The field (. is an empty plot):\n{self.board(state)}"

    def board(self, state: State) -> str:
        head, _, rows = self._text.board(self._undisguise(state)).partition("\n")
        return f"{head.translate(_PLOTS)}\n{rows.translate(str.maketrans('xo', '#@'))}"


#: The columns of breakthrough, and of couriers.
_MAP = str.maketrans("abcdefgh", "klmnopqr")


class CouriersText(DisguiseText):
    games = ("arena_couriers",)
    original = "breakthrough"
    rules = """\
Game: Couriers, on a map with 8 rows (row 1 at the bottom) and 8 columns.
Rules: two players take turns. On each turn a player moves one of their own couriers to a place \
in the next row. Player 0 has the couriers v, which start at the top and walk down; player 0 \
moves first. Player 1 has the couriers ^, which start at the bottom and walk up. A courier walks \
to the place straight ahead, or to one of the two places diagonally ahead, if no courier stands \
there. If a courier of the other player stands diagonally ahead, it may be sent home, which takes \
it from the map, and its place is taken. Nobody has to send a courier home. The first player who \
brings a courier to the farthest row (row 1 for v, row 8 for ^) wins. A player whose couriers \
have all been sent home loses. There are no draws.
Actions: the place that the courier leaves and the place that it reaches, each as the column's \
letter and the row's number, with ! at the end if a courier is sent home: k8>k7 walks from k8 to \
k7.
Returns: 1 for a win, -1 for a loss."""
    ornaments = "!"

    def side(self, seat: int) -> str:
        way = ("down, from row 8 to row 1", "up, from row 1 to row 8")[seat]
        return f"You are player {seat}. Your couriers are {'v^'[seat]}; they walk {way}."

    def position(self, state: State, seat: int) -> str:
        return f"The map (. is an empty place):\n{self.board(state)}"

    def board(self, state: State) -> str:
        head, _, rows = self._text.board(self._undisguise(state)).partition("\n")
        return f"{head.translate(_MAP)}\n{rows.translate(str.maketrans('bw', 'v^'))}"


#: The letters and signs of chess moves: pieces, files, captures, promotions, checks.
_COURT = str.maketrans(
    {
        **dict(zip("KQRBN" + "abcdefgh", "DETCH" + "ijklmnop", strict=True)),
        "x": "*", "=": "/", "+": "!", "#": "!!",
    }
)  # fmt: skip
#: Those of the drawing, which has no files: here b is a bishop.
_PIECES = str.maketrans("KQRBNPkqrbnp", "DETCHGdetchg")


class CourtText(DisguiseText):
    games = ("arena_court",)
    original = "chess"
    case_matters = True
    ornaments = "!"
    rules = """\
Game: Court.
Rules: the hall has 64 places, in columns i to p from the left and rows 1 to 8 from the bottom. \
Two players take turns to move one of their figures; player 1 (capital letters, at the bottom) \
starts. Each has a Duke (D), an Empress (E), two Towers (T), two Clerics (C), two Horses (H) and \
eight Guards (G). A figure may move to an empty place, or to a place of the rival's, which takes \
the figure there from the hall. A Tower moves any distance along a row or a column, a Cleric \
along a diagonal, the Empress along all of these, over empty places only. The Duke moves by one \
place in any direction. A Horse jumps two places along a row or a column and then one to the \
side. A Guard moves one place forward (capital letters: up) to an empty place, or two from the \
row where it started if both are empty; it takes figures only on the two places diagonally in \
front of it. A Guard that has just moved two places may be taken, by a Guard alone and in the \
next move only, as if it had moved one. A Guard that reaches the last row becomes an Empress, \
Tower, Cleric or Horse. Shelter: a Duke and a Tower that have not moved yet, with no figure \
between them, may move together: the Duke moves two places toward the Tower, and the Tower to the \
place that the Duke passed; not if the Duke is threatened or would pass or reach a threatened \
place. A Duke that could be taken is threatened. No move may leave one's own Duke threatened. A \
player whose Duke is threatened and who has no such move loses. The game is a draw if the player \
to move has no move and the Duke is not threatened, if the same position occurs for the third \
time, after 50 moves by each side in which no figure was taken and no Guard moved, and if neither \
side has enough figures to win.
Actions: the letter of the figure (none for a Guard) and the place that it moves to, with a * \
before the place if a figure is taken; a Guard that takes begins with its column. If several \
figures could move there, the column or the row of the figure follows its letter. near is Shelter \
with the Tower of column p, far with that of column i. /E at the end: the Guard becomes an \
Empress. ! at the end: the rival's Duke is threatened, !!: and the game is won. Examples: m4, Hn3, \
m*l5.
Returns: 1 for a win, 0 for a draw, -1 for a loss."""

    def side(self, seat: int) -> str:
        return f"You are player {seat}. Your figures are the {('small', 'capital')[seat]} letters."

    def position(self, state: State, seat: int) -> str:
        moves = _list([move.text for move in state.history if move.seat != CHANCE])
        return f"Moves so far: {moves}\nThe hall (. is an empty place):\n{self.board(state)}"

    def note(self, state: State, seat: int, action: LegalAction) -> str:
        return ""

    def board(self, state: State) -> str:
        rows, _, rights, _, quiet, _ = str(state).split(" ")
        lines = [
            f"{8 - index} {' '.join(re.sub('[1-8]', lambda m: '.' * int(m[0]), row))}"
            for index, row in enumerate(rows.translate(_PIECES).split("/"))
        ]
        names = {
            "K": "capital near", "Q": "capital far", "k": "small near", "q": "small far",
        }  # fmt: skip
        shelter = _list([name for letter, name in names.items() if letter in rights])
        return "\n".join(
            (
                "  i j k l m n o p",
                *lines,
                f"Figures that have not moved still allow: {shelter}",
                f"Moves since a figure was taken or a Guard moved: {quiet}",
            )
        )


def _register() -> None:
    """Register all disguises with OpenSpiel. Those of matrix games get MatrixGameText.

    The last item of a row is the order of the actions, if it differs from the original's.
    """

    def words(names: Mapping[str, str]) -> Rename:
        return lambda _, text: names.get(text, text)

    def cell(seat: int, text: str) -> str:
        return str(_NUMBERS[3 * int(text[2]) + int(text[4])])

    def claim(seat: int, text: str) -> str:
        if seat < 0 or "-" not in text:
            return "Doubt" if text == "Liar" else text
        number, face = text.split("-")
        return number + _LETTERS[int(face) - 1]

    def plot(seat: int, text: str) -> str:
        return f"{text[1:]}{text[0].translate(_PLOTS)}"

    def walk(seat: int, text: str) -> str:
        text = text.translate(_MAP)
        return f"{text[:2]}>{text[2:4]}{'!' * text.endswith('*')}"

    def court(seat: int, text: str) -> str:
        text = text.translate(_COURT)
        return text.replace("O-O-O", "far").replace("O-O", "near")

    for name, title, original, rename, *order in (
        ("arena_fifteen", "Fifteen", "tic_tac_toe", cell, _CELLS),
        ("arena_towers", "Towers", "connect_four", lambda _, text: _TOWERS[int(text[1:])]),
        ("arena_seals", "Three seals", "kuhn_poker", words({"Pass": "Hold", "Bet": "Add"}), (1, 0)),
        (
            "arena_twin_stones", "Twin stones", "leduc_poker",
            words({"Fold": "Quit", "Call": "Match", "Raise": "Push"}), (1, 2, 0),
        ),
        ("arena_sealed_tokens", "Sealed tokens", "liars_dice", claim),
        ("arena_pipes", "Pipes", "hex", plot),
        ("arena_couriers", "Couriers", "breakthrough", walk),
        ("arena_court", "Court", "chess", court),
        (
            "arena_lamps", "Two lamps", "matrix_mp",
            words({"Heads": "Red", "Tails": "Green"}), (1, 0),
        ),
        (
            "arena_shops", "Two shops", "matrix_pd",
            words({"Cooperate": "Keep the price", "Defect": "Cut the price"}), (1, 0),
        ),
        (
            "arena_weather", "Weather", "matrix_rps",
            words({"Rock": "Sun", "Paper": "Rain", "Scissors": "Wind"}), (1, 0, 2),
        ),
    ):  # fmt: skip
        register_disguise(name, title, original, rename, *order)


_register()
