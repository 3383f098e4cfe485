"""An experiment: its file, its schedule, its estimate, and how an episode is played."""
