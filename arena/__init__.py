"""Experiments: language models play OpenSpiel's games. Game code: it uses only the client."""
