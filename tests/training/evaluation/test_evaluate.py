import csv
import json
from pathlib import Path

import pytest

from service.ocr.recognizer import Recognizer
from tests import stripes
from training.data.dataset import Dataset, digest_of
from training.data.prepare import prepare
from training.data.split import split_by_content
from training.evaluation.evaluate import read_samples_with, report, summarize, write_results
from training.evaluation.target import samples_of
from training.exceptions import DataError
from training.fit.runs import Run


@pytest.fixture
def striped(tmp_path: Path) -> Dataset:
    """Twelve stripe pictures, two of them with a wrong label, three with adjacent repeats."""
    texts = ["abcd", "dcba", "ab", "bc", "cd", "dc", "cb", "ba", "a ac", "d db"]
    labels = {text: text.replace(" ", "") for text in texts} | {"ad": "ax", "b bd": "bbbd"}
    folder = tmp_path / "pictures"
    folder.mkdir()
    for text, label in labels.items():
        (folder / f"{label}.png").write_bytes(stripes.picture(text))
    prepare(folder, tmp_path / "data")
    return Dataset(tmp_path / "data")


def test_the_summary_agrees_with_a_count_by_hand(striped: Dataset, recognizer: Recognizer) -> None:
    """The summary has exact match, CER and the figures of labels with adjacent repeats."""
    summary = summarize(read_samples_with(recognizer, striped, striped.samples))
    assert (summary["pictures"], summary["exact"]) == (12, 10)
    assert summary["exact_match"] == pytest.approx(10 / 12, abs=1e-6)
    assert summary["cer"] == pytest.approx(2 / 32, abs=1e-6)
    low, high = summary["exact_match_interval"]
    assert low < 10 / 12 < high
    assert (summary["adjacent_repeats"]["pictures"], summary["adjacent_repeats"]["exact"]) == (3, 2)


def test_the_report_names_every_misread_picture(striped: Dataset, recognizer: Recognizer) -> None:
    """The report also lists the confusions."""
    lines = report(read_samples_with(recognizer, striped, striped.samples), "title").splitlines()
    assert lines[0] == "title"
    assert "1 × x read as d" in lines
    assert "1 × b read as nothing" in lines
    assert any(line.startswith("misread: ax.png is 'ax', read as 'ad'") for line in lines)


def test_results_are_written_as_json_and_csv(
    striped: Dataset, recognizer: Recognizer, tmp_path: Path
) -> None:
    """JSON has the summary, CSV a row for every picture."""
    results = read_samples_with(recognizer, striped, striped.samples)
    write_results(tmp_path / "out", "test", results)
    summary = json.loads((tmp_path / "out" / "test.json").read_text())
    assert {"expected": "x", "read": "d", "count": 1} in summary["confusions"]
    with (tmp_path / "out" / "test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert {row["label"] for row in rows if row["exact"] == "0"} == {"ax", "bbbd"}


def test_the_test_split_comes_from_the_run_or_from_the_same_data(
    striped: Dataset, tmp_path: Path, run: Run, recognizer: Recognizer
) -> None:
    """Without the run and with other data, the test split is unknown."""
    assert samples_of("test", striped, recognizer, run) == run.split("test")
    absent = Run(tmp_path / "runs" / "gone")
    with pytest.raises(DataError, match="SPLIT=all"):
        samples_of("test", striped, recognizer, absent)
    assert samples_of("all", striped, recognizer, absent) == striped.samples
    digest = digest_of(striped.samples)
    same = Recognizer.load(stripes.write_model(tmp_path / "m.onnx", data_digest=digest))
    expected = split_by_content(striped.samples)["test"]
    assert samples_of("test", striped, same, absent) == expected
