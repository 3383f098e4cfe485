"""The router's cache of replies, which can also record and replay calls."""
