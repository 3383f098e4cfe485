"""Calls a real service through the installed compatibility package: ARENA_LLM_TARGET names it."""

from __future__ import annotations

from importlib import import_module

backends = import_module("game_reasoning_arena.backends")
backends.initialize_llm_registry()
[model] = backends.LLM_REGISTRY
assert backends.generate_response(model, "Your move?", max_tokens=8, temperature=0.1) == "0"
