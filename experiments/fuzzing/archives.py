"""Arrays, archives and media of others."""

import io
import tarfile
import zipfile

import numpy as np

from experiments.fuzzing.common import allowed, as_npy, as_npz, as_npz_packed, as_zip, new_folder


def npy():
    """An array of others."""
    from tfvc.data import arrays

    def read(folder, data):
        path = folder / "a.npy"
        path.write_bytes(data)
        with allowed(folder):
            arrays.headers(path)
        with allowed(folder):
            found = arrays.whole(path, "frames")
            np.asarray(found).sum() if found.dtype.kind in "fiu" else None
            arrays.row(path, found, 0) if found.ndim and len(found) else None

    return read, [as_npy(np.ones((3, 2), "float32")), as_npy(np.asfortranarray(np.ones((2, 3), "float16")))]


def npz():
    """Arrays of others in a `.npz` file."""
    from tfvc.data import arrays

    def read(folder, data):
        path = folder / "a.npz"
        path.write_bytes(data)
        with allowed(folder):
            for name in arrays.headers(path):
                arrays.member(path, name)
        with allowed(folder):
            arrays.whole(path, "frames")

    given = {"frames": np.ones((3, 2), "float32"), "audio": np.ones((1, 4), "float16")}
    return read, [as_npz(**given), as_npz_packed(given)]


def archive():
    """The archive of a `.keras` file: what is looked at before Keras is."""
    from tfvc import files

    def read(folder, data):
        (folder / "model.keras").write_bytes(data)
        with allowed(folder):
            files.check_archive(folder / "model.keras")

    return read, [as_zip(**{"config.json": b"{}", "model.weights.h5": b"x" * 99}), as_zip(8, a=bytes(9999))]


def keras_model():
    """The configuration in a `.keras` file, opened as a run's model is, in Keras' safe mode."""
    import keras

    from tfvc import recipe, workdir

    frames = keras.Input((4, 2), name="frames")
    classes = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(frames))
    model = keras.Model({"frames": frames}, classes)
    with new_folder() as folder:
        model.save(folder / "model.keras")
        with zipfile.ZipFile(folder / "model.keras") as whole:
            parts = {name: whole.read(name) for name in whole.namelist()}
    facts = workdir.Facts("set", "", "records", ["x", "y"], [recipe.Feature("frames", (4, 2))])
    settings = recipe.get("attention_boosted")

    def read(folder, data):
        (folder / "model.keras").write_bytes(as_zip(**parts | {"config.json": data}))
        with allowed(folder):
            workdir.Run(folder, settings, facts, 0).model()
        keras.backend.clear_session()

    return read, [parts["config.json"]]


def tar():
    """The starter's packed model: nothing may be written beside its folder."""
    from starter import checkpoints, serving

    def read(folder, data):
        (folder / "model.tgz").write_bytes(data)
        with allowed(folder):
            serving.unpack(folder / "model.tgz", folder / "model")
        beside = [p.name for p in folder.iterdir() if not p.name.startswith((".", "model"))]
        if beside:
            raise AssertionError(f"written outside of the folder: {beside}")

    def packed(**names):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=0) as archive:
            for name, text in names.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text))
        return out.getvalue()

    return read, [
        packed(**{"model.keras": b"xyz", checkpoints.FLAGS_FILE: b"{}"}),
        packed(**{"../out": b"x"}),
    ]


def _clip(suffix):
    from tfvc.data import demo

    frames = np.zeros((5, 16, 16, 3), "uint8")
    frames[:, 4:9] = np.arange(5)[:, None, None, None] * 40
    with new_folder() as folder:
        demo.write_clip(folder / f"a{suffix}", frames, fps=5, sound=np.sin(np.arange(4000) / 9), rate=8000)
        return (folder / f"a{suffix}").read_bytes()


def media_header():
    """The header of a media file: FFmpeg, a library in C."""
    from tfvc.data import video

    def read(folder, data):
        (folder / "a").write_bytes(data)
        with allowed(folder):
            video.streams(folder / "a")

    return read, [_clip(suffix) for suffix in (".mp4", ".avi", ".mkv")]


def media():
    """Pictures and sound of a media file, as extraction reads them, with small bounds."""
    from tfvc.data import audio, video

    bounds = {"fps": 2, "size": (8, 8), "max_pixels": 1 << 16, "max_seconds": 60.0}

    def read(folder, data):
        (folder / "a").write_bytes(data)
        with allowed(folder):
            video.read_frames(folder / "a", **bounds, track=audio.Track(seconds=5))
        with allowed(folder):
            audio.read_audio(folder / "a", max_seconds=60.0)

    return read, [_clip(suffix) for suffix in (".mp4", ".avi", ".mkv")]
