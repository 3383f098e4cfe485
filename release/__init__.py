"""Builds the packages of a release and checks what is in them: `make packages`."""
