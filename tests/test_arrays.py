"""Arrays of others: headers without the arrays, rows from disk, and nothing pickled."""

import h5py
import numpy as np
import pytest

from tfvc.data import arrays

VALUES = np.arange(24, dtype="float32").reshape(2, 3, 4)


def test_headers_are_those_of_the_arrays(tmp_path):
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", frames=VALUES, times=np.zeros(0), text=np.array("x"))
        found = arrays.headers(tmp_path / "a.npz")
        assert found["frames"] == ((2, 3, 4), np.dtype("float32")) and found["times"] == (
            (0,),
            np.dtype("float64"),
        )
        assert set(found) == {"frames", "times", "text"}
        np.testing.assert_array_equal(arrays.member(tmp_path / "a.npz", "frames"), VALUES)
    np.save(tmp_path / "b.npy", VALUES[:0])
    assert arrays.headers(tmp_path / "b.npy", "audio") == {"audio": ((0, 3, 4), np.dtype("float32"))}


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_header_is_read(tmp_path, version):
    with open(tmp_path / "a.npy", "wb") as f:
        np.lib.format.write_array(f, VALUES, version=version)
    assert arrays.headers(tmp_path / "a.npy")["frames"][0] == (2, 3, 4)
    np.testing.assert_array_equal(arrays.whole(tmp_path / "a.npy", "frames")[1], VALUES[1])


def test_rows_come_from_disk_where_the_format_allows_it(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    np.savez(tmp_path / "a.npz", frames=VALUES)
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f.create_dataset("avadataset", data=VALUES, compression="gzip")
        f.create_group("more")["inner"] = VALUES
    kinds = {".npy": np.memmap, ".npz": np.ndarray, ".h5": h5py.Dataset}
    for suffix, kind in kinds.items():
        found = arrays.whole(tmp_path / f"a{suffix}", "frames")
        assert type(found) is kind
        np.testing.assert_array_equal(found[1], VALUES[1])


def test_objects_are_refused_in_each_format(tmp_path):
    ragged = np.array([VALUES, None], object)
    np.save(tmp_path / "a.npy", ragged)
    np.savez(tmp_path / "a.npz", frames=ragged)
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["names"] = ["variable", "text"]
    for name in ("a.npy", "a.npz", "a.h5"):
        with pytest.raises(ValueError, match=f"{name}: holds pickled objects, which are not read"):
            arrays.whole(tmp_path / name, "frames")


def test_damage_another_format_and_an_unclear_choice_are_named(tmp_path):
    np.save(tmp_path / "whole.npy", VALUES)
    np.savez(tmp_path / "two.npz", x=VALUES, y=VALUES)
    blob = (tmp_path / "whole.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(blob[:-8])
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "a.csv").write_bytes(b"1,2")
    for name, message in [
        ("cut.npy", "cut.npy: cannot be read"),
        ("empty.npz", "empty.npz: cannot be read"),
        ("a.csv", "a.csv: expected an array, .npy .npz .h5 .hdf5$"),
        ("two.npz", "two.npz: holds x, y; expected one array, or 'frames'"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            arrays.whole(tmp_path / name, "frames")
        assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="gone.npy: no such file"):
        arrays.whole(tmp_path / "gone.npy", "frames")
    with pytest.raises(ValueError, match="two.npz: cannot be read"):
        arrays.member(tmp_path / "two.npz", "z")
