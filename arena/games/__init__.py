"""OpenSpiel's games by name, their positions, and the text that describes them."""
