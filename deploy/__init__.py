"""Runs the services on one machine: environments, process manager, commands of the Makefile."""
