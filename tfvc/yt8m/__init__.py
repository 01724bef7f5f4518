"""Runs on YouTube-8M's records, named by patterns: what the commands do otherwise for them."""
