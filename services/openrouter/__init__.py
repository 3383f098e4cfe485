"""OpenRouter: hundreds of models behind one key (https://openrouter.ai/docs)."""
