"""What every service shares: the servicer, the backend's base class, config, errors."""
