"""What the data tell of a run: measures they have, and the model made to measure."""

import pytest
from test_second_stage import CLASSES, SMALL, make_records

from tfvc import facts, recipe


@pytest.mark.parametrize("monitor, several", [("accuracy", True), ("micro_f1", False)])
def test_a_measure_that_the_data_do_not_have_is_refused(monitor, several, tmp_path):
    records = make_records(tmp_path / "records", several=several, clips=12)
    with pytest.raises(ValueError, match=f"there is no train.monitor={monitor}"):
        facts.gather(recipe.get("resbilstm", overrides=[*SMALL, f"train.monitor={monitor}"]), records, 0)


def test_categorical_loss_is_refused_where_clips_have_several_labels(tmp_path):
    records = make_records(tmp_path / "records", clips=12)
    with pytest.raises(ValueError, match="train.loss=categorical is for one"):
        facts.gather(recipe.get("resbilstm", overrides=[*SMALL, "train.loss=categorical"]), records, 0)


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
