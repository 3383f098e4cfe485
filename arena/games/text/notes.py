"""What the arena knows about games that have no text of their own: data for generic.py.

The sides were compared with the engine: see tests/unit/arena/games/test_sides.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GameNotes:
    """Additions to the generic text.

    title: where OpenSpiel's long name is not the usual one. rules: in place of a reference to the
    usual rules. sides: for each seat, a sentence on what it owns. legend: how to read the
    position. actions: how actions are written. coded: the information state is a code of
    numbers, so the observation and the seat's own history are shown in its place. case_matters,
    ornaments: see GameText.
    """

    title: str = ""
    rules: str = ""
    sides: tuple[str, ...] = ()
    legend: str = ""
    actions: str = ""
    coded: bool = False
    case_matters: bool = False
    ornaments: str = ""


def _pieces(noun: str, *signs: str) -> tuple[str, ...]:
    return tuple(f"Your {noun} {sign}." for sign in signs)


_BLACK_FIRST_SEAT = (
    "You have the black pieces (lower case).",
    "You have the white pieces (upper case) and move first.",
)
_COMPASS = tuple(
    f"You are {name}, and {partner} is your partner."
    for name, partner in (
        ("North", "South"),
        ("East", "West"),
        ("South", "North"),
        ("West", "East"),
    )
)
_ALONE = tuple(f"You are {name}." for name in ("North", "East", "South", "West"))
_STONES = _pieces("stones are", "O", "@")
_CARDS = "A card is written as its suit (C, D, H, S) and its rank (T is 10)."
_FEN = "The position is in FEN."

NOTES: Mapping[str, GameNotes] = {
    "2048": GameNotes(legend="0 is a free cell."),
    "amazons": GameNotes(
        sides=_pieces("queens are", "X", "O"),
        legend="On the board, . is a free cell and # is a cell that was shot.",
        actions="a turn has three actions: From chooses a queen, To moves it, Shoot blocks a cell; "
        "cells are (row, column), counted from 1, from the top left",
    ),
    "antichess": GameNotes(
        rules="as chess, but captures are compulsory, kings are ordinary pieces, and a player who "
        "has lost all pieces or cannot move wins.",
        sides=_BLACK_FIRST_SEAT,
        legend=_FEN,
        actions="moves in standard algebraic notation",
        case_matters=True,
        ornaments="+#!?",
    ),
    "banqi": GameNotes(
        legend="On the board, ? is a piece that lies face down and . is a free cell. Capital "
        "letters are one color, small letters the other one; the line below the board says which "
        "color player 0 has as soon as the first piece is turned up.",
        case_matters=True,
    ),
    "battleship": GameNotes(
        rules="the players place their ships in turn, in the order of their sizes, and then shoot "
        "in turn at cells of the other player's board. The return is the value of the ships that "
        "you have sunk, minus loss_multiplier times the value of your own sunk ships.",
        sides=_pieces("actions start with", "Pl0", "Pl1"),
        legend="Letters are your ships. In your shot outcomes, @ is a shot into the water and # is "
        "a hit. On your own board, * and capital letters are the other player's shots.",
        actions="rows and columns are counted from 0, from the top left",
        coded=True,
    ),
    "bridge": GameNotes(sides=_COMPASS),
    "bargaining": GameNotes(
        rules="two players divide a pool of items, each of which has a private value for each "
        "player. They make offers in turn, each of which says what the offering player wants to "
        "keep. If an offer is accepted, each player gets the value of their items; otherwise "
        "nobody gets anything.",
    ),
    "capture_the_flag": GameNotes(
        sides=(
            "You are A on the board; your flag is a.",
            "You are B on the board; your flag is b.",
        ),
    ),
    "catch": GameNotes(
        rules="a ball (o) falls one row on each turn; your paddle (x) in the lowest row moves left "
        "or right or stays. You win if the ball falls onto the paddle.",
    ),
    "chinese_checkers": GameNotes(
        sides=_pieces("pieces are", "1", "2", "3", "4", "5", "6"),
        legend="The cells are numbered from 0, row by row from the top, and from left to right.",
        actions="from->to is a step to a neighbouring cell, from=>to is one or several jumps",
    ),
    "cliff_walking": GameNotes(
        rules="walk from the start to the goal. Each step costs 1, and stepping off the cliff "
        "costs 100.",
        legend="P is you, X is the cliff, G is the goal.",
    ),
    "clobber": GameNotes(sides=_pieces("stones are", "o", "x")),
    "coin_game": GameNotes(
        sides=tuple(f"You are {seat} on the board." for seat in range(10)),
        legend="The first line is the color of coins that you prefer, as a number: 0 is a, 1 is b, "
        "and so on. Then follows how many coins of each color each player has collected.",
    ),
    "colored_trails": GameNotes(
        sides=(
            "You propose a trade to player 2.",
            "You propose a trade to player 2.",
            "You choose one of the two proposed trades, or neither.",
        ),
        legend="Letters are colors of cells and chips. Pos has the cells of the players 0, 1 and 2 "
        "and of the flag, counted from 0, row by row.",
    ),
    "coop_box_pushing": GameNotes(
        legend="What you see is the cell in front of you.",
    ),
    "crazy_eights": GameNotes(legend=_CARDS),
    "crazyhouse": GameNotes(
        rules="as chess, but a captured piece changes its color, and the player who has captured "
        "it may place it on a free cell in place of a move.",
        sides=_BLACK_FIRST_SEAT,
        legend=f"{_FEN} Pieces in hand stand in square brackets.",
        actions="moves in standard algebraic notation; N@f3 places a knight",
        case_matters=True,
        ornaments="+#!?",
    ),
    "cribbage": GameNotes(legend="A card is written as its rank and its suit."),
    "cursor_go": GameNotes(
        sides=("You are Black; your stones are X.", "You are White; your stones are O."),
        legend="+ is a free point. B or W after to_play is the color that moves.",
        actions="Up, Down, Left and Right move the cursor; Place Stone ends the turn",
    ),
    "dark_chess": GameNotes(
        rules="as chess, but players only see their own pieces and the cells to which these can "
        "move. There is no check: a player who captures the other king wins.",
        sides=_BLACK_FIRST_SEAT,
        legend=f"{_FEN} ? is a cell that you cannot see.",
        actions="moves in standard algebraic notation",
        case_matters=True,
        ornaments="+#!?",
    ),
    "dark_hex_ir": GameNotes(
        sides=(
            "Your stones are x; they must connect the top row and the bottom row.",
            "Your stones are o; they must connect the leftmost and the rightmost column.",
        ),
        legend="The position is your view of the board. You do not see the other player's stones "
        "until you try their cell.",
    ),
    "deep_sea": GameNotes(
        rules="you dive through a square, one row on each turn, to the left or to the right; the "
        "treasure is in the bottom right corner. Which action leads to the right may be different "
        "in every cell.",
        legend="x is your cell; the rows stand one after the other.",
    ),
    "dou_dizhu": GameNotes(
        legend="T is 10, (BWJ) is the black and white joker, (CJ) the colored joker.",
    ),
    "einstein_wurfelt_nicht": GameNotes(
        title="EinStein würfelt nicht!",
        sides=_pieces("stones are", "b (black), from b1 to b6", "w (white), from w1 to w6"),
    ),
    "euchre": GameNotes(sides=_COMPASS, legend=_CARDS),
    "gin_rummy": GameNotes(legend="A card is written as its rank and its suit (s, c, d, h)."),
    "go_fish": GameNotes(
        legend="Ranks are the letters a, b, c and so on. A rank with a number is how many cards of "
        "it you have. In the lines below, ranks are numbers: 0 is a.",
        actions="a player's number and a rank: 1d asks player 1 for cards of rank d",
    ),
    "hanabi": GameNotes(
        legend="By default there are 5 colors (R, Y, G, W, B), 5 ranks, 8 information tokens and 3 "
        "lives. Of each of your own cards you see X, and after the line what it can be.",
        actions="cards are counted from 0; Reveal player +1 gives a hint to the next player",
    ),
    "havannah": GameNotes(
        sides=_STONES, legend="On the board, . is a free cell; square brackets mark the last stone."
    ),
    "hearts": GameNotes(sides=_ALONE, legend="A card is written as its rank and its suit."),
    "hive": GameNotes(
        sides=(
            "You are White; your pieces start with w.",
            "You are Black; your pieces start with b.",
        ),
        legend="The position is a UHP game string: the type of the game, its state, whose turn it "
        "is, and all moves.",
        actions="moves in UHP notation: the piece, and a neighbouring piece with -, / or \\ on the "
        "side where it goes",
        case_matters=True,
    ),
    "kriegspiel": GameNotes(
        sides=_BLACK_FIRST_SEAT,
        legend="You see your own pieces in FEN, and the umpire's answers. You do not see the other "
        "player's pieces.",
        actions="the cell that a piece leaves and the cell that it tries to move to; the umpire "
        "refuses moves that are not possible",
    ),
    "laser_tag": GameNotes(
        sides=("You are A on the board.", "You are B on the board."),
        legend="* is an obstacle. Orientations are those of A and B: 0 north, 1 south, 2 east, 3 "
        "west.",
    ),
    "latent_ttt": GameNotes(
        title="latent tic-tac-toe",
        sides=_pieces("marks are", "x", "o"),
        legend="You do not see a move of the other player before you have made your next one.",
    ),
    "liars_dice_ir": GameNotes(
        legend="The position is your seat, your dice, and the latest bids.",
    ),
    "lines_of_action": GameNotes(sides=_pieces("pieces are", "x", "o")),
    "maedn": GameNotes(
        title="Mensch ärgere dich nicht",
        sides=tuple(
            f"Your pieces are {number}; the board calls you {number}." for number in range(1, 5)
        ),
        legend="S is a cell where pieces enter. The board counts players from 1.",
        actions="a number and what it means; fields are counted from 0",
    ),
    "markov_soccer": GameNotes(
        sides=("You are A on the board.", "You are B on the board."),
        legend="A small letter is a player without the ball, a capital letter a player with it. "
        "O is the ball as long as nobody has it.",
    ),
    "morpion_solitaire": GameNotes(
        legend="1 is a point. Rows and columns are counted from 0, from the top left.",
        actions="the four points of a new line, as [row,column]",
    ),
    "nine_mens_morris": GameNotes(
        sides=_pieces("men are", "W", "B"),
        legend="The points are numbered from 0 to 23, row by row from the top.",
    ),
    "oh_hell": GameNotes(legend=_CARDS),
    "oshi_zumo": GameNotes(
        sides=(
            "Your coins are the first number; you push the wrestler W to the right.",
            "Your coins are the second number; you push the wrestler W to the left.",
        ),
    ),
    "oware": GameNotes(
        sides=(
            "Your houses are A to F.",
            "Your houses are a to f.",
        ),
        legend="The position is the player to move, the scores of player 0 and player 1, and the "
        "seeds in the houses A to F and then a to f.",
        case_matters=True,
    ),
    "pathfinding": GameNotes(
        sides=tuple(f"You are {seat} on the board." for seat in range(10)),
        legend="* is an obstacle.",
    ),
    "pentago": GameNotes(
        sides=_STONES,
        legend="On the board, . is a free cell. The letters s to z around the board are the "
        "rotations of the four quarters.",
        actions="the cell (column and row) and the letter of the rotation",
    ),
    "phantom_go": GameNotes(
        sides=("You are Black; your stones are X.", "You are White; your stones are O."),
        legend="+ is a point that looks free to you. You do not see the other player's stones "
        "before you try their point.",
    ),
    "phantom_ttt_ir": GameNotes(
        title="phantom tic-tac-toe with imperfect recall",
        sides=_pieces("marks are", "x", "o"),
        legend="The position is your view of the board. You do not see the other player's marks "
        "until you try their cell.",
    ),
    "quoridor": GameNotes(
        sides=_pieces("pawn is", "0; its goal is the top row", "@; its goal is the bottom row"),
        legend="The board's first line has the walls that are left of each player.",
        actions="a cell moves your pawn there; a cell with v or h places a vertical or horizontal "
        "wall",
    ),
    "rbc": GameNotes(
        title="reconnaissance blind chess",
        sides=_BLACK_FIRST_SEAT,
        legend="You see your own pieces in FEN, and what you have sensed. You do not see the other "
        "player's moves.",
        actions="Sense and a cell looks at a part of the board before your move; a move is the "
        "cell that a piece leaves and the cell that it moves to",
    ),
    "sheriff": GameNotes(
        rules="player 0, the smuggler, loads a number of illegal items. Then, in each round, the "
        "smuggler offers a bribe, and player 1, the sheriff, says whether they would inspect the "
        "cargo; only the last round counts.",
        sides=("You are the smuggler.", "You are the sheriff."),
        legend="The position is the number of moves, and what you know of the cargo, the bribes "
        "and the answers (feedback:1 is an inspection).",
    ),
    "shogi": GameNotes(
        sides=(
            "You are Black; your pieces are upper case, and you move first.",
            "You are White; your pieces are lower case.",
        ),
        legend="The position is in SFEN.",
        actions="moves in USI notation: the cell that a piece leaves and the cell that it moves "
        "to, with + for a promotion",
        case_matters=True,
    ),
    "skat": GameNotes(legend=_CARDS),
    "snake": GameNotes(
        sides=tuple(
            f"Your snake is {seat}, and your actions start with p{seat}." for seat in range(10)
        ),
        legend="* is a fruit.",
    ),
    "solitaire": GameNotes(
        legend="? is a card that lies face down. An arrow points from the card that moves to the "
        "card or the foundation that it goes to.",
        coded=True,
    ),
    "spades": GameNotes(sides=_COMPASS, legend=_CARDS),
    "tiny_bridge_2p": GameNotes(
        rules="a simplified bridge with the cards J, Q, K and A of hearts and spades. Both players "
        "are partners, have two cards each, and bid in turn.",
    ),
    "tiny_bridge_4p": GameNotes(
        sides=tuple(f"You are {name}." for name in ("West", "North", "East", "South")),
        rules="a simplified bridge with the cards J, Q, K and A of hearts and spades. Players 0 "
        "and 2 are partners, and so are players 1 and 3. All have two cards each, and bid in turn.",
    ),
    "tiny_hanabi": GameNotes(
        rules="each player sees a private number (d0, d1, ...), and the players choose one action "
        "each in turn, which the others see. The payoff, the same for all players, depends on all "
        "numbers and actions; the parameter payoff lists it, with the last action as the index "
        "that changes fastest.",
    ),
    "trade_comm": GameNotes(
        rules="each player has one item. In turn, each says one word, which the other one hears, "
        "and then each secretly offers a trade of their item for another one. Both win if the "
        "offers fit together.",
    ),
    "twixt": GameNotes(
        sides=_pieces("pegs are", "x", "o"),
        actions="the sign of your peg, the column's letter and the row's number",
    ),
    "ultimate_tic_tac_toe": GameNotes(
        sides=_pieces("marks are", "x", "o"),
        legend="The nine boards are numbered from 0, row by row from the top left. The forced "
        "board is the one in which you must mark a cell.",
        actions="the number of the board and the cell as (row,column), counted from 0, from the "
        "top left",
    ),
    "xiangqi": GameNotes(
        sides=_pieces("pieces are", "upper case", "lower case"),
        legend="g or G is the general, a the advisor, e the elephant, h the horse, r the chariot, "
        "c the cannon, s the soldier.",
        actions="the piece, and from which cell to which cell it moves, as (row,column), counted "
        "from 0, from the top left",
        case_matters=True,
    ),
    "yacht": GameNotes(legend="The dice are counted from 0."),
}
