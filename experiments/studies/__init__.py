"""A file here is a study: a docstring and `STUDY`. `python -m experiments.run NAME` runs it."""
