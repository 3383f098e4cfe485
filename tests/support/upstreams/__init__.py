"""Real HTTP servers on loopback that speak providers' wire formats."""
