"""Envoy in front of the router (`make up EDGE=envoy`): calls that need no router go straight to the
services."""
