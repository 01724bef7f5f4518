"""Lists of clips, of classes, of words, and predictions."""

import io
import json

from experiments.fuzzing.common import allowed, as_json

_AVE = "Category&VideoID&Quality&StartTime&EndTime\nBell&a1&good&0&10\nBell&b2&good&0&10\nDog&b2&good&2&5\n"


def _manifest(suffix, examples):
    from tfvc.data import manifests

    def read(folder, data):
        path = folder / f"clips{suffix}"
        path.write_bytes(data)
        for given in ({"media": True}, {"labelled": False, "media": False}, {"concepts": True}):
            with allowed(folder):
                manifests.read(path, **{"media": False} | given)

    return read, [text.encode() for text in examples]


def manifest_csv():
    """A manifest as CSV: of classes, of tweets, of the seven concepts of disasters."""
    concepts = 'id,video,label,description\n1,a.mp4,"FloodStorm;3","Help, #flood ""here"""\n2,b.mp4,6,\n'
    return _manifest(".csv", ["id,path,labels,text,group,split\na,a.mp4,x;y,hello,g,train\n", concepts])


def manifest_jsonl():
    """A manifest as JSON lines."""
    line = {"id": "a", "path": "a.mp4", "labels": ["x", "y"], "text": "caf\u00e9", "split": "val"}
    concepts = {"id": "b", "video": "b.mp4", "label": "speak;0", "description": "\ud83d\ude00"}
    return _manifest(".jsonl", [f"{json.dumps(line)}\n\n{json.dumps(concepts)}\n"])


def ave():
    """AVE's Annotations.txt and, behind an empty line, its testSet.txt."""
    from tfvc.data import ave as reader

    def read(folder, data):
        annotations, _, test = data.partition(b"\n\n")
        names = {reader.ANNOTATIONS: annotations, "testSet.txt": test}
        for name, text in {"trainSet.txt": b"", "valSet.txt": b"", **names}.items():
            (folder / name).write_bytes(text)
        with allowed(folder):
            reader.read(folder)

    return read, [_AVE.encode(), f"{_AVE}\nDog&b2&good&2&5\nBell&a1&good&0&10\n".encode()]


def ave_order():
    """AVE's test_order.h5: HDF5, a library in C."""
    import h5py

    from tfvc.data import ave as reader

    def order(rows, **options):
        out = io.BytesIO()
        with h5py.File(out, "w") as f:
            f.create_dataset("order", data=rows, **options)
        return out.getvalue()

    train = order([0])

    def read(folder, data):
        (folder / reader.ANNOTATIONS).write_text(_AVE, encoding="utf-8")
        for part in ("train", "val", "test"):
            (folder / f"{part}_order.h5").write_bytes(data if part == "test" else train)
        with allowed(folder):
            reader.read(folder)

    return read, [order([1, 2]), order([2, 1, 0], chunks=(2,), compression="gzip")]


def kinetics():
    """A CSV file of Kinetics, for Kinetics-Sounds."""
    from tfvc.data import kinetics_sounds

    def read(folder, data):
        (folder / "wanted").write_text("tap dancing\n", encoding="utf-8")
        (folder / "train.csv").write_bytes(data)
        with allowed(folder):
            kinetics_sounds.read(folder / "train.csv", str(folder / "wanted"), None)

    lines = "label,youtube_id,time_start,time_end,split\ntap dancing,abc-1,0,10,train\nsinging,x,1.5,12,val\n"
    return read, [lines.encode(), b"\xef\xbb\xbf" + lines.replace("singing", '"sing, ""ing"').encode()]


def ucf101():
    """UCF-101's lists of an official split."""
    from tfvc import recipe
    from tfvc.data import datasets

    def read(folder, data):
        for label in ("Punch", "Archery"):
            (folder / "clips" / label).mkdir(parents=True, exist_ok=True)
            (folder / "clips" / label / f"v_{label}_g01_c01.avi").touch()
        (folder / "ucfTrainTestlist").mkdir(exist_ok=True)
        for part in ("train", "test"):
            (folder / "ucfTrainTestlist" / f"{part}list01.txt").write_bytes(data)
        with allowed(folder):
            datasets.load(recipe.Data(), str(folder / "clips"))

    return read, [b"Punch/v_Punch_g01_c01.avi 1\nArchery/v_Archery_g01_c01.avi 2\r\n"]


def classes():
    """A file of class names."""
    from tfvc.data import classes as reader

    def read(folder, data):
        (folder / "keep").write_bytes(data)
        with allowed(folder):
            reader.chosen(folder / "keep", {"tap dancing", "singing", "b\u00e9"})

    return read, [b"tap dancing\n\nsinging\r\n", "\ufeffb\u00e9\n".encode()]


def vocabulary():
    """YouTube-8M's vocabulary.csv."""
    from tfvc.data import vocabulary as reader

    def read(folder, data):
        (folder / "vocabulary.csv").write_bytes(data)
        with allowed(folder):
            reader.class_names(folder / "vocabulary.csv", 2)

    return read, [
        b'Index,KnowledgeGraphId,Name\n0,/m/01,Game\n1,/m/02,"Toy, ""red"""\n',
        b"Name,Index\n,0\na,1\n",
    ]


def glove():
    """A file of word vectors."""
    from tfvc.backbones import glove as reader

    def read(folder, data):
        path = folder / "glove.txt"
        path.write_bytes(data)
        for words in (None, {"red"}):
            with allowed(folder):
                reader.read(path, words, most=50)
        with allowed(folder):
            reader.width(path)

    return read, [b"red 1 0\nblue -1.5e-3 .5\n. . . 1 2\n", b"2 3\nred 1 0 1\ncaf\xc3\xa9 0 1 2\n"]


def predictions():
    """Batch predictions of the starter, JSON to CSV."""
    from starter import convert_prediction_from_json_to_csv as converter

    def read(folder, data):
        (folder / "results.json").write_bytes(data)
        with allowed(folder):
            converter.convert(str(folder / "results.json"), str(folder / "out.csv"))

    line = {"video_id": "v", "class_indexes": [3, 1], "predictions": [0.75, 1e-7]}
    return read, [as_json(line) + b"\n\n" + as_json(line | {"video_id": "\u00e9", "class_indexes": ["3", 1]})]


def class_ids():
    """The starter's file of the classes of segments."""
    from starter import submissions

    def read(folder, data):
        (folder / "ids.csv").write_bytes(data)
        with allowed(folder):
            submissions.class_mask(str(folder / "ids.csv"), 1000)

    return read, [b"Index\n3\n17\n999\n", "\ufeff\u0663\r\n7\n".encode()]
