"""The original arena's configuration object, as far as callers need it."""

from __future__ import annotations

import os


class BackendConfig:
    """Finds providers' keys in the environment.

    Calls need no key here: the service of a provider has the key.
    """

    def get_api_key(self, provider: str) -> str:
        """Return a provider's key. Raises ValueError, naming the variable, if it is not set."""
        variable = self.get_api_key_env_var(provider)
        if key := os.environ.get(variable, "").strip():
            return key
        raise ValueError(f"no API key for {provider!r}: set {variable} in the environment")

    def get_api_key_env_var(self, provider: str) -> str:
        """Return the name of the variable that holds a provider's key."""
        return f"{provider.upper().replace('-', '_')}_API_KEY"


config = BackendConfig()
