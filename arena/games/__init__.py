"""The games: OpenSpiel's by name, and the words for them."""
