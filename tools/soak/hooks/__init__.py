"""For PYTHONPATH alone: Python itself imports `sitecustomize` from there as it starts."""
