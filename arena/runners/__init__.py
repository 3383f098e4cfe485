"""Playing the episodes of an experiment: in this process, or in several by Ray."""
