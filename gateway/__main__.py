"""`python -m gateway [--config FILE]`."""

from gateway.process import main

main()
