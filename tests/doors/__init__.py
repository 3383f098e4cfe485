"""Foreign programs that call our services. `python -m tests.doors.environments` installs them."""
