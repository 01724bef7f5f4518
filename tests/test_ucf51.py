"""Which classes of UCF-101 have sound; sound files as clips."""

import numpy as np
import pytest

from tfvc.data import datasets, demo, ucf51
from tfvc.recipe import Data


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Loud: 2 of 2 clips with sound; half: 1 of 3 and one that cannot be read; mute: none of 1."""
    root = tmp_path_factory.mktemp("UCF-101")
    picture = np.zeros((4, 32, 32, 3), np.uint8)
    sound = np.sin(np.arange(4000) / 10).astype("float32")
    heard = {"Loud": (1, 1), "Half": (1, 0, 0), "Mute": (0,)}
    for name, clips in heard.items():
        (root / name).mkdir()
        for i, loud in enumerate(clips):
            demo.write_clip(root / name / f"v_{name}_g0{i}_c01.mp4", picture, sound=sound if loud else None)
    (root / "Half" / "broken.avi").write_bytes(b"none")
    return root


def _run(*arguments):
    with pytest.raises(SystemExit) as stop:
        ucf51.main(arguments)
    return stop.value.code


def test_the_command_writes_the_classes_that_have_sound(videos, tmp_path, capsys):
    out = tmp_path / "ucf51.txt"
    assert _run(f"--data={videos}", f"--out={out}") == 0
    assert out.read_text() == "Loud\n"
    text = capsys.readouterr().out
    assert "1 of 3 classes have sound, with 2 clips, 2 of them with sound (the paper counts 51" in text
    assert "only some clips have sound: Half, 1 of 3; left out" in text and "Mute" not in text
    assert "cannot be read, and does not count: " in text and "broken.avi" in text
    assert _run(f"--data={videos}", f"--out={out}", "--least=0.3") == 0
    assert out.read_text() == "Half\nLoud\n"
    assert "with 6 clips, 3 of them with sound" in capsys.readouterr().out


def test_the_command_says_what_is_wrong(videos, tmp_path, capsys):
    assert _run() == 2 and "expected --data=UCF-101" in capsys.readouterr().err
    assert _run("--data=x", "--least=2") == 2
    assert _run(f"--data={tmp_path / 'gone'}") == 1
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "Mute").symlink_to(videos / "Mute")
    capsys.readouterr()
    assert _run(f"--data={tmp_path / 'set'}", "--least=0", f"--out={tmp_path / 'o.txt'}") == 1
    assert "no class has sound in 0 of its clips or more (0 of 1 clips have any)" in capsys.readouterr().err
    assert not (tmp_path / "o.txt").exists()


def test_the_real_clips_without_sound_give_no_class(shared):
    with pytest.raises(ValueError, match="no class has sound.*expected UCF-101 as published"):
        ucf51.sounding(str(shared("data/ucf101")))


@pytest.mark.parametrize("labelled", [True, False])
def test_sound_files_are_clips_where_only_sound_is_asked_for(tmp_path, labelled):
    names = ["a/x.wav", "a/y.OGG", "b/z.mp4", "b/x.flac", "b/n.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    ids = lambda streams: [  # noqa: E731
        c.id
        for c in datasets.load(Data(streams=streams), str(tmp_path), labelled=labelled, least_classes=1).clips
    ]
    assert ids("audio") == ["a/x", "a/y", "b/x", "b/z"]
    assert ids("") == ids("frames") == ["b/z"]
    # To predict, a stream may be missing; to learn, a clip of two streams is a video.
    assert ids("frames,audio") == (["b/z"] if labelled else ids("audio"))


def test_the_real_sounds_are_classes(shared):
    found = datasets.load(Data(streams="audio"), str(shared("data/esc10")))
    assert len(found.classes) == 10 and "001 - Dog bark" in found.classes
    assert all(clip.path.endswith(".ogg") for clip in found.clips)
