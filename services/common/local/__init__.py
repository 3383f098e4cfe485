"""Base classes of the services that run models on this machine."""
