"""The agents: language models, and baselines that need no model."""
