"""One file a paper: `get_recipe(fidelity)`."""
