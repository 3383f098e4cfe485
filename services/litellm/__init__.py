"""The litellm service: 100+ providers, each with its own key (https://docs.litellm.ai)."""
