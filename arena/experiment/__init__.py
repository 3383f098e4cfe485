"""An experiment: its configuration, its episodes, and how one is played."""
