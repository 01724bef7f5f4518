"""What the data tell of a run: measures they have, and the model made to measure."""

import pytest
from test_second_stage import CLASSES, SMALL, make_records

from tfvc import encoders, facts, recipe


@pytest.mark.parametrize("monitor, several", [("accuracy", True), ("micro_f1", False)])
def test_a_measure_that_the_data_do_not_have_is_refused(monitor, several, tmp_path):
    records = make_records(tmp_path / "records", several=several, clips=12)
    with pytest.raises(ValueError, match=f"there is no train.monitor={monitor}"):
        facts.gather(recipe.get("resbilstm", overrides=[*SMALL, f"train.monitor={monitor}"]), records, 0)


def test_categorical_loss_is_refused_where_clips_have_several_labels(tmp_path):
    records = make_records(tmp_path / "records", clips=12)
    with pytest.raises(ValueError, match="train.loss=categorical is for one"):
        facts.gather(recipe.get("resbilstm", overrides=[*SMALL, "train.loss=categorical"]), records, 0)


@pytest.mark.parametrize(
    "model, overrides, row, told",
    [
        ("attention_boosted", ["data.split=group"], "c,c.mp4,b,z", "only one group in class 'b'"),
        (
            "attention_boosted",
            ["data.split=random"],
            "c,c.mp4,a;b,z",
            "expected one label a clip, or another --model: ",
        ),
        (
            "raf",
            ["data.validation_fraction=0", "second_stage.thresholds=tuned"],
            "c,c.mp4,a;b,z",
            "no validation part",
        ),
    ],
)
def test_what_cannot_be_split_or_labelled_does_not_wait_for_the_extraction(
    model, overrides, row, told, tmp_path, monkeypatch
):
    monkeypatch.setattr(encoders, "load", lambda *_: pytest.fail("weights were asked for"))
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.mp4").write_bytes(b"clip")
    rows = ["id,path,labels,group", "a,a.mp4,a,x", "b,b.mp4,a,y", "d,d.mp4,a,w", row]
    (tmp_path / "clips.csv").write_text("\n".join(rows), encoding="utf-8")
    with pytest.raises(ValueError, match=told) as error:
        facts.gather(recipe.get(model, overrides=overrides), str(tmp_path / "clips.csv"), 0)
    assert "another --model" not in told or "raf, resbilstm" in str(error.value)


def test_the_rows_have_their_own_lengths_and_the_model_the_words(tmp_path):
    records = make_records(tmp_path / "records")
    r = recipe.get("resbilstm", overrides=[*SMALL, "audio.rows=2", "text.rows=5"])
    found, split = facts.gather(r, records, 0)
    assert {row.name: row.shape for row in found.features} == {
        "frames": (3, 6),
        "audio": (2, 5),
        "text": (5, 1),
    }
    assert found.multi_label and found.classes == list(CLASSES) and len(found.vocabulary) == 4
    assert [len(split[part]) for part in ("train", "validation", "test")] == [36, 12, 12]
    model = facts.build(r, found)
    assert model.get_layer("words").embeddings.shape == (5, 4)
    assert model.output["probabilities"].shape == (None, 3)
