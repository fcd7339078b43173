"""Mutation testing: break the core in each small way that means something, and see whether a test notices."""
