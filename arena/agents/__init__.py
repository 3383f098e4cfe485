"""The players: language models, and yardsticks that need none."""
