"""OpenSpiel's games: loading by name, positions, and the text that describes them."""
