"""One file a paper: `build_model(inputs, num_classes, *, ...)`."""
