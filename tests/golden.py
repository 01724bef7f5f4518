"""How the golden checks read a file. A check is `function(path, tmp_path)`; a module `golden_<what>.py`
names its checks in `CHECKS`, prefix of the file's name -> check."""

import json

import numpy as np


def read(path):
    """Arrays of a golden file by name, weights too, and its meta."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(str(arrays.pop("meta")))
