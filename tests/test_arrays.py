"""Arrays of others: headers without the arrays, rows from disk, and nothing pickled."""

import io
import zipfile

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
    with pytest.raises(ValueError, match=r"a.h5: names holds text.*expected numbers, as f\['names'\] = "):
        arrays.whole(tmp_path / "a.h5", "frames")
    for name in ("a.npy", "a.npz"):
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


def _npy(header):
    """A .npy file of this header, without numbers."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def _said(shape, descr="<f4"):
    return _npy(f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n")


HEADERS = {
    "open": _npy("{'descr': '<f4', 'shape': (3, 'abc\n"),  # tokenize.TokenError
    "deep": _npy("(" * 9000),
    "minus": _npy("-" * 9000 + "1"),
    "list": _npy("{[]: 1}"),  # TypeError
    "huge": _said((10**13, 6)),
    "over": _said((10**30, 6)),
    "negative": _said((-3, 6)),
    "long": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 70000,
    "junk": b"junk",
    "empty": b"",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_broken_header_is_one_line_with_the_remedy(tmp_path, name):
    (tmp_path / "a.npy").write_bytes(HEADERS[name])
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("frames.npy", HEADERS[name])
    for suffix, make in ((".npy", "np.save"), (".npz", "np.savez")):
        message = rf"a{suffix}: cannot be read: damaged.*make it again with {make}, or remove it$"
        with pytest.raises(arrays.Damaged, match=message) as error:
            arrays.headers(tmp_path / f"a{suffix}")
        assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_an_encrypted_member_and_damaged_numbers_are_damage(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", frames=VALUES)
    blob = bytearray((tmp_path / "a.npz").read_bytes())
    for flags in (6, blob.index(b"PK\x01\x02") + 8):
        blob[flags] |= 1
    (tmp_path / "locked.npz").write_bytes(blob)
    with pytest.raises(arrays.Damaged, match="locked.npz: cannot be read: damaged.*encrypted.*np.savez"):
        arrays.headers(tmp_path / "locked.npz")
    np.savez(tmp_path / "b.npz", frames=np.ones(20_000))
    blob = bytearray((tmp_path / "b.npz").read_bytes())
    blob[100_000] ^= 1
    (tmp_path / "b.npz").write_bytes(blob)
    assert arrays.headers(tmp_path / "b.npz")["frames"][0] == (20_000,)
    with pytest.raises(arrays.Damaged, match="b.npz: cannot be read: damaged.*CRC"):
        arrays.member(tmp_path / "b.npz", "frames")
    with h5py.File(tmp_path / "c.h5", "w") as f:
        f.create_dataset("x", data=VALUES, chunks=(1, 3, 4), fletcher32=True)
    blob = (tmp_path / "c.h5").read_bytes()
    (tmp_path / "c.h5").write_bytes(blob.replace(VALUES[1].tobytes(), bytes(VALUES[1].nbytes)))
    found = arrays.whole(tmp_path / "c.h5", "x")
    np.testing.assert_array_equal(arrays.row("c.h5", found, 0), VALUES[0])
    with pytest.raises(arrays.Damaged, match="c.h5: cannot be read: damaged.*make it again, or remove it"):
        arrays.row(tmp_path / "c.h5", found, 1)


def test_what_is_no_array_in_a_zip_is_passed_over(tmp_path):
    numbers = io.BytesIO()
    np.save(numbers, VALUES)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("README.txt", "words")
        archive.writestr("frames.npy", numbers.getvalue())
    assert list(arrays.headers(tmp_path / "a.npz")) == ["frames"]
