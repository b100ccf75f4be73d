"""One training run, and the runs of several seeds."""
