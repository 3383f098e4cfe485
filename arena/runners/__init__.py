"""Runs experiments: a coordinator hands out episodes, workers play them."""
