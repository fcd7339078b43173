"""A long run of the production stack with faults, and the proof from its record: what `make soak` runs."""
