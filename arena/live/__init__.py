"""A page in the browser that shows running games move by move, and lets a person play."""
