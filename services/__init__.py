"""The backends, each a service of its own: `python -m services.<name>`.

This package must exist: without it the folder `services/vllm` could be taken for
the library `vllm`.
"""
