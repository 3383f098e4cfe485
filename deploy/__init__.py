"""How the services run on one machine: environment, process manager, commands."""
