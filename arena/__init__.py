"""Experiments: language models play OpenSpiel's games. Models are reached only by the client."""
