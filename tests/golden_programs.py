"""The golden files of the programs' text and segments: lines of inference, windows of frames."""

import numpy as np
from golden import read

from starter.inference import format_lines, get_segments


def lines(path, tmp_path):
    golden, meta = read(path)
    given = golden["predictions"].copy()
    mask = golden["mask"] if meta["mask"] else None
    assert meta["mask"] == bool(golden["mask"].size)
    if golden["error"].item():  # top_k above the classes: ours lists what there is
        made = list(format_lines(golden["video_ids"], given, meta["top_k"], mask))
        assert len(made) == len(given) and meta["top_k"] > given.shape[1]
        return
    made = b"".join(format_lines(golden["video_ids"], given, meta["top_k"], mask))
    assert made.decode() == golden["lines"].item()
    # The original's change in place is what the mask does to the predictions; ours leaves them alone.
    np.testing.assert_array_equal(given, golden["predictions"])
    np.testing.assert_array_equal(given if mask is None else given * mask, golden["predictions_after"])


def segments(path, tmp_path):
    golden, meta = read(path)
    made = get_segments(golden["video_matrix"], golden["num_frames"], meta["segment_size"])
    if golden["error"].item():  # a last window beyond the padded length: ours fills it with zeros
        assert (made["num_frames_batch"] > 0).all() and golden["video_matrix"].shape[1] % meta["segment_size"]
        return
    assert len(made) == sum(name.startswith("out_") for name in golden)
    for name, value in made.items():
        np.testing.assert_array_equal(value, golden[f"out_{name}"])
        assert value.dtype == golden[f"out_{name}"].dtype


CHECKS = {"format_lines_": lines, "get_segments_": segments}
