"""Language-model backends, reached through Arena LLM."""
