"""Foreign programs against our services. `python -m tests.doors.environments` installs them."""
