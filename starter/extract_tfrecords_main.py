"""Videos to YouTube-8M records: `python -m starter.extract_tfrecords_main`."""

import csv
import os
import re
import sys
from pathlib import Path

if not __package__:  # run as a file: `starter` is found from the root, nothing of it by its bare name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from starter import flags
from tfvc import cli, files

_DOC = """Extracts YouTube-8M features from videos. Each line `video_path,label;label;...` of a CSV file gives
a record of the frame-level form (at most 300 frames), which starter.train and the original's readers read.

Pictures go through Inception v3 and YouTube-8M's PCA, from the files that the published program keeps in
--model_dir. Sound goes through VGGish where --vggish_weights names its weights; else, and where a clip has
none, the audio stream is bytes of 0, as the published program writes it (--noinsert_zero_audio_features
leaves it out). The features agree with the released ones only approximately: those were made with networks
and decoders of Google's own (mediapipe issue 408).

A video that cannot be decoded is named and counted, and the run goes on; the exit status is 1 only if no
video gave a record. A wrong line of the CSV stops the run before the first video. The records appear under
their name when the last one is written."""

_FLAGS = {
    "input_videos_csv": ("string", "", "CSV file with lines video_path,label;label;... (labels: integers)"),
    "output_tfrecords_file": ("string", "", "the TFRecord file to write"),
    "model_dir": ("string", "~/yt8m", "folder of the published Inception graph and PCA files"),
    "frames_per_second": ("positive", 1, "so many frames a second"),
    "skip_frame_level_features": ("boolean", False, "write only id, labels and mean_*: no frames"),
    "labels_feature_key": ("string", "labels", "name of the labels in the record"),
    "image_feature_key": ("string", "rgb", "name of the frames' features; mean_ goes before it"),
    "video_file_feature_key": ("string", "id", "name of the video's path in the record"),
    "insert_zero_audio_features": (
        "boolean",
        True,
        "where there is no sound (or no --vggish_weights), write audio as bytes of 0 and mean_audio as 0.0",
    ),
    "backbone": (
        ("inception_2015", "inception_v3"),
        "inception_2015",
        "the published frozen graph in --model_dir, or Inception v3 of Keras Applications",
    ),
    "backbone_weights": ("string", "imagenet", "of inception_v3: imagenet, random, or a weights file"),
    "pca": (
        ("files", "random"),
        "files",
        "YouTube-8M's PCA in --model_dir, or a random one to try things out",
    ),
    "vggish_weights": (
        "string",
        "",
        "sound through VGGish: audioset, random, a checkpoint, a .h5 file, a SavedModel, hub:HANDLE; "
        "empty: no sound",
    ),
    "vggish_pca": ("string", "", "AudioSet's vggish_pca_params.npz, or random to try; empty: looked for"),
}
_LONGEST = 24 * 3600.0  # seconds of a file; no more than the first 300 frames of it are read
_LABEL = re.compile(r"\s*\d{1,18}\s*")  # what an int64 holds


def read_videos(path):
    """The lines of the CSV file, all checked.

    **Differs**: the original fails in the middle of the run at a wrong label, and at a line of another number
    of fields. Here a path alone, or with nothing behind the comma, is a video without labels.

    Returns:
        list of (video path, sorted labels).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line that is not `path,label;label;...`, or no line at all.

    Example:
        >>> _ = Path("videos.csv").write_text("a.mp4,52;3\\nb.mp4,\\n")
        >>> read_videos("videos.csv")
        [('a.mp4', [3, 52]), ('b.mp4', [])]
    """
    videos = []
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as f:
            reader = csv.reader(f)
            for row in reader:
                if not row:
                    continue
                place = f"{path}: line {reader.line_num}"
                if len(row) > 2 or not row[0].strip():
                    raise ValueError(
                        f"{place}: {len(row)} fields {row}; expected video_path,label;label;... "
                        "(a path with a comma goes in quotes)"
                    )
                labels = row[1].split(";") if len(row) == 2 and row[1].strip() else []
                for label in labels:
                    if not _LABEL.fullmatch(label):
                        raise ValueError(
                            f"{place}: label {label!r}; expected integers of 0 or more joined with ;"
                        )
                videos.append((row[0], sorted(map(int, labels))))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; expected lines video_path,label;label;...") from None
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV file ({error})") from None
    if not videos:
        raise ValueError(f"{path}: no video in it; expected lines video_path,label;label;...")
    return videos


def extract(arguments):
    """Writes the records of all videos.

    Returns:
        (videos written, [(path, why) of those skipped]).

    Raises:
        FileNotFoundError, ValueError: a wrong CSV line, weights that are missing, or not one record.
    """
    for name in ("input_videos_csv", "output_tfrecords_file"):
        if not getattr(arguments, name):
            raise cli.Usage(f"--{name} is needed. See python -m starter.extract_tfrecords_main --help")
    if "backbone_weights" in arguments.given and arguments.backbone != "inception_v3":
        raise cli.Usage("--backbone_weights goes with --backbone=inception_v3; the graph of 2015 has its own")
    if arguments.vggish_pca and not arguments.vggish_weights:
        raise cli.Usage("--vggish_pca goes with --vggish_weights; add it, or leave both out")
    videos = read_videos(arguments.input_videos_csv)
    import tensorflow as tf

    from tfvc.backbones.yt8m import Networks, YouTube8MFeatureExtractor

    extractor = YouTube8MFeatureExtractor(
        arguments.model_dir,
        backbone=arguments.backbone,
        weights=arguments.backbone_weights,
        pca=arguments.pca,
    )
    print(f"inception: {extractor.weights}")
    if arguments.pca == "random":
        print("pca=random: a random projection, not YouTube-8M's; for trying things out only")
    networks = Networks(extractor, _sound(arguments) if arguments.vggish_weights else None)
    output = Path(arguments.output_tfrecords_file)
    written, skipped = 0, []
    bar = cli.progress(len(videos), 0, "video")
    with files.locked(output, "writing"):
        files.sweep(output.parent, output.name)
        with files.aside(output) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer, bar:
            for path, labels in videos:
                try:
                    record = make_record(path, labels, networks, arguments, bar)
                except (_media_error(), OSError) as error:
                    skipped.append((path, str(error)))
                    bar.write(f"skipped: {files.shown(str(error))}", file=sys.stderr)
                else:
                    writer.write(record)
                    written += 1
                bar.update()
            if not written:
                raise ValueError(
                    f"{output}: not written; none of the {len(videos)} videos of "
                    f"{arguments.input_videos_csv} could be decoded"
                )
    return written, skipped


def _media_error():
    from tfvc.data.video import MediaError

    return MediaError


def _sound(arguments):
    """VGGish and its PCA."""
    from tfvc.backbones.yt8m import Sound

    sound = Sound(arguments.vggish_weights, arguments.vggish_pca)
    print(f"vggish: {sound.weights}")
    if arguments.vggish_pca == "random":
        print("vggish_pca=random: a random projection, not AudioSet's; for trying things out only")
    return sound


def make_record(path, labels, networks, arguments, bar):
    """One serialised record.

    **Source**: the main loop of YouTube-8M's `extract_tfrecords_main.py`.

    **Differs**: see `tfvc.yt8m.clips.streams`.

    Args:
        path, labels: of the video.
        networks: `tfvc.backbones.yt8m.Networks`.
        arguments: the program's flags.
        bar: where notes are written.

    Returns:
        bytes of a `tf.train.SequenceExample`; with `skip_frame_level_features` of its context alone, which is
        a `tf.train.Example` too.

    Raises:
        MediaError, FileNotFoundError: the video cannot be decoded.
    """
    import tensorflow as tf

    from tfvc.backbones.yt8m import AUDIO
    from tfvc.yt8m import clips

    notes = []
    found = clips.streams(path, networks, fps=arguments.frames_per_second, max_seconds=_LONGEST, notes=notes)
    for note in notes:
        bar.write(f"note: {files.shown(path)}: {files.shown(note)}", file=sys.stderr)
    streams = {arguments.image_feature_key: (found["rgb"], found["mean_rgb"])}
    if "audio" in found or arguments.insert_zero_audio_features:
        audio = np.zeros((len(found["rgb"]), AUDIO), "uint8")  # behind the sound's end bytes of 0
        if "audio" in found:
            audio[: len(found["audio"])] = found["audio"]
        streams["audio"] = audio, found.get("mean_audio", np.zeros(AUDIO))
    example = tf.train.SequenceExample()
    context = example.context.feature
    context[arguments.video_file_feature_key].bytes_list.value.append(os.fsencode(path))
    context[arguments.labels_feature_key].int64_list.value.extend(labels)
    for name, (frames, mean) in streams.items():
        context[f"mean_{name}"].float_list.value.extend(mean.tolist())
        if not arguments.skip_frame_level_features:
            rows = example.feature_lists.feature_list[name].feature
            for frame in frames:
                rows.add().bytes_list.value.append(frame.tobytes())
    return example.SerializeToString(deterministic=True)


def run(arguments):
    """What `main` runs: extracts and says how it went."""
    written, skipped = extract(arguments)
    print(f"Successfully encoded {written} out of {written + len(skipped)} videos")
    print(f"written: {arguments.output_tfrecords_file}")


def main(argv=None):
    flags.command("starter.extract_tfrecords_main", _DOC, _FLAGS, run, argv)


if __name__ == "__main__":
    main()
