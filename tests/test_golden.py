"""Every file of the golden folder (`TFVC_GOLDEN`, default ../shared/golden), checked by its prefix.

Drop a file of a known kind into the folder and it is checked: the checks are in `golden_*.py`. A kind
without a check is listed by
`test_kinds_without_a_check_belong_to_issues_still_open`, and fails once its issue is in `RESOLVED`.
"""

import importlib
import json
import os
from pathlib import Path

import golden_attb
import numpy as np
import pytest
from conftest import SHARED, shared_path
from golden import read

GRAPPLER = True  # see conftest
RESOLVED = {2, 3, 4, 5, 6}

_GIVEN = os.environ.get("TFVC_GOLDEN")
FOLDER = Path(_GIVEN) if _GIVEN else SHARED / "golden"
FILES = sorted(p for p in FOLDER.glob("*") if p.is_file() and p.suffix != ".md")


# --- the table ----------------------------------------------------------------------------------------------

# Prefix -> the issue that owns the kind.
ISSUES = {
    "attb_": 2,
    "yt8m_": 3,
    "reader_": 3,
    "metrics_": 3,
    "apcalc_": 3,
    "format_lines_": 3,
    "get_segments_": 3,
    "segeval_": 3,
    "loupe_": 3,
    "vggish_": 3,
    "frames_": 3,
    "segments_": 3,
    "videos_": 3,
    "mfb_": 4,
    "mafnet_": 5,
    "soundnet_": 6,
}
CHECKS = {}  # prefix -> check; the longest prefix of a file's name wins
for _module in sorted(Path(__file__).parent.glob("golden_*.py")):
    CHECKS |= importlib.import_module(_module.stem).CHECKS


def longest(name, table):
    """The value of the longest prefix of a name, or None."""
    return table.get(max((p for p in table if name.startswith(p)), key=len, default=None))


def kind(name):
    """(issue, check or None) of a file name.

    Raises:
        LookupError: a file of no known kind.
    """
    issue = longest(name, ISSUES)
    if issue is None:
        raise LookupError(f"{name}: a golden file of no known kind; add its prefix to ISSUES")
    return issue, longest(name, CHECKS)


def uncovered(file_names, resolved):
    """(names without a check, those of them whose issue is resolved)."""
    missing = [name for name in file_names if kind(name)[1] is None]
    return missing, [name for name in missing if kind(name)[0] in resolved]


def covered_files():
    """Files with a check; one of no known kind counts, and fails by name."""
    return [p for p in FILES if not longest(p.name, ISSUES) or kind(p.name)[1]]


def run(path, tmp_path):
    kind(path.name)[1](path, tmp_path)


def test_the_golden_folder_holds_files():
    if not _GIVEN:
        shared_path("golden")
    assert FILES, f"no golden file in {FOLDER}"


@pytest.mark.parametrize("path", covered_files(), ids=lambda p: p.name)
def test_golden(path, tmp_path):
    run(path, tmp_path)


def test_kinds_without_a_check_belong_to_issues_still_open(capsys):
    missing, late = uncovered([p.name for p in FILES], RESOLVED)
    with capsys.disabled():
        checked = len(FILES) - len(missing)
        print(f"\ngolden: {checked} files checked, {len(missing)} not covered: {_kinds(missing)}")
    assert not late, f"their issue is resolved, and no check was written: {late}"


def _kinds(names):
    prefixes = {p for p in ISSUES for n in names if n.startswith(p)}
    return ", ".join(sorted(f"{p}* (issue {ISSUES[p]})" for p in prefixes)) or "none"


# --- the checks have teeth ----------------------------------------------------------------------------------


def test_a_resolved_issue_without_a_check_and_an_unknown_kind_are_seen(monkeypatch):
    monkeypatch.setitem(ISSUES, "unchecked_", 99)
    assert uncovered(["unchecked_s9.npz", "attb_block_s9.npz"], {2}) == (["unchecked_s9.npz"], [])
    assert uncovered(["unchecked_s9.npz"], {2, 99}) == (["unchecked_s9.npz"], ["unchecked_s9.npz"])
    assert uncovered(["attb_new_s0.npz"], {2})[1] == ["attb_new_s0.npz"]
    with pytest.raises(LookupError, match="nonsense_s0.npz"):
        kind("nonsense_s0.npz")
    assert kind("attb_cnn_lstm_attention_x.npz")[1] is golden_attb.attb_net


@pytest.mark.parametrize(
    "name, array",
    [
        ("attb_block_s0.npz", "w/dense_1/kernel"),
        ("attb_cnn_lstm_s0.npz", "w/bidirectional_1/backward_lstm_1/recurrent_kernel"),
        ("attb_cnn_attention_lstm_s0.npz", "w/dense_1/bias"),
        ("attb_cnn_lstm_attention_s0.npz", "mid/attention_mul"),
        ("attb_cnn_lstm_attention_s0.npz", "loss_inference"),
        ("attb_generate_batch_s0.npz", "sample_2"),
        ("attb_generate_batch_s0.npz", "batches_y"),
    ],
)
def test_a_changed_number_fails_the_check(shared, name, array, tmp_path):
    golden, meta = read(shared(f"golden/{name}"))
    golden[array] = golden[array].copy()
    golden[array][(0,) * golden[array].ndim] += 0.01
    np.savez(tmp_path / name, meta=json.dumps(meta), **golden)
    with pytest.raises(AssertionError):
        run(tmp_path / name, tmp_path)


def test_a_plain_sigmoid_gate_fails_the_check(shared, tmp_path):
    golden, meta = read(shared("golden/attb_cnn_lstm_s0.npz"))
    np.savez(
        tmp_path / "attb_cnn_lstm_s0.npz",
        meta=json.dumps(meta | {"recurrent_activation": "sigmoid"}),
        **golden,
    )
    with pytest.raises(AssertionError, match="out"):
        run(tmp_path / "attb_cnn_lstm_s0.npz", tmp_path)
