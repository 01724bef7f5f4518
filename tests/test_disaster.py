"""The seven concepts of disaster videos: their order, and the labels that mean them."""

from tfvc.data import demo, disaster


def test_concepts_are_table_one_of_the_paper():
    # Pouyanfar et al. 2019, Table I: numbers of instances, and their sum
    assert list(disaster.CONCEPTS.values()) == [150, 338, 971, 273, 371, 311, 811]
    assert sum(disaster.CONCEPTS.values()) == 3225 and disaster.CONCEPTS is demo.CONCEPTS


def test_labels_mean_concepts_by_name_or_by_number():
    names = list(disaster.CONCEPTS)
    assert [disaster.concept(str(i)) for i in range(7)] == names
    assert [disaster.concept(f"00{i}") for i in range(7)] == names
    assert [disaster.concept(name.upper()) for name in names] == names
    printed = ["Demo", "Emergency Response", "Flood/Storm", "Human Relief", "Damage", "Victim"]
    assert [disaster.concept(name) for name in [*printed, "Speak/Briefing/Interview"]] == names
    for label in ("", "7", "-1", "1.0", "٣", "9" * 5000, "Flood", "fire"):
        assert disaster.concept(label) is None
