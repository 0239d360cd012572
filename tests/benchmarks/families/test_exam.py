"""A cell of the exam trains with `make` in a clean folder, and reads unseen pictures."""

import csv
from pathlib import Path

import pytest

from benchmarks.families import exam
from benchmarks.families.catalogue import UNSEEN
from tests import stripes

LEARNED = 60

MAKEFILE = """
data:
\tcp "$(DATA)/labels.csv" learned.csv
train:
\techo "$(ARGS)|$(RECIPE)" > trained.txt
export-onnx:
\tcp {model} models/captcha.onnx
evaluate:
\ttest -f trained.txt
"""


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """A family of stripe pictures; every fourth unseen picture has a wrong label."""
    folder = tmp_path / "stripes"
    folder.mkdir()
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label"))
        for index in range(LEARNED + UNSEEN):
            text = "abc" if index % 2 else "dab"
            (folder / f"{index:06}.png").write_bytes(stripes.picture(text))
            wrong = index >= LEARNED and index % 4 == 0
            writer.writerow((f"{index:06}.png", "bbb" if wrong else text))
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project whose training makes the stripe model."""
    folder = tmp_path / "repository"
    for name in ("models", "requirements", "service", "training"):
        (folder / name).mkdir(parents=True)
    (folder / "models" / "captcha.onnx").write_text("bundled")
    model = stripes.write_model(tmp_path / "stripes.onnx")
    (folder / "Makefile").write_text(MAKEFILE.format(model=model))
    return folder


def test_the_outcome_counts_the_unseen_pictures_that_are_read_right(
    family: Path, repository: Path, tmp_path: Path
) -> None:
    outcome = exam.run(family, 50, exam.OURS, tmp_path / "work", repository)

    assert (outcome.failed, outcome.exact, outcome.pictures) == ("", UNSEEN * 3 // 4, UNSEEN)
    # The stripe model is sure of everything, and a quarter of the labels is wrong.
    assert outcome.ece == pytest.approx(0.25, abs=0.01)
    assert list(outcome.seconds) == ["data", "train", "export-onnx", "evaluate"]
    assert outcome.cpu_seconds.keys() == outcome.seconds.keys()


def test_training_gets_the_first_pictures_and_no_unseen_picture(
    family: Path, repository: Path, tmp_path: Path
) -> None:
    exam.run(family, 50, exam.OURS, tmp_path / "work", repository)

    pictures = sorted(path.name for path in (tmp_path / "work/pictures").glob("*.png"))
    assert pictures == [f"{index:06}.png" for index in range(50)]
    rows = (tmp_path / "work/learned.csv").read_text().splitlines()
    assert rows[0] == "path,label"
    assert [row.split(",")[0] for row in rows[1:]] == pictures


@pytest.mark.parametrize(
    ("labels", "reader", "minutes", "expected"),
    [
        (50, exam.OURS, None, "--minutes 10|"),
        (200, exam.OURS, None, "--minutes 15|"),
        (800, exam.OURS, None, "--minutes 30|"),
        (50, exam.SEED, None, "|seed"),
        (800, exam.OURS, 2.5, "--minutes 2.5|"),
        (50, exam.SEED, 2.5, "--minutes 2.5|seed"),
    ],
)
def test_training_gets_its_minutes_and_no_variables_of_an_outer_make(
    family: Path,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    labels: int,
    reader: str,
    minutes: float | None,
    expected: str,
) -> None:
    for name, value in (("ARGS", "--families x"), ("MAKEFLAGS", " -- ARGS=--families"),
                        ("RECIPE", "robust")):  # fmt: skip
        monkeypatch.setenv(name, value)

    outcome = exam.run(family, labels, reader, tmp_path / "work", repository, minutes)

    assert outcome.failed == ""
    assert expected.startswith(
        f"--minutes {outcome.given_minutes:g}|" if outcome.given_minutes else "|"
    )
    assert (tmp_path / "work/trained.txt").read_text() == expected + "\n"


def test_the_bundled_model_is_kept_and_files_of_an_earlier_try_are_deleted(
    family: Path, repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/runs").write_text("of an earlier try")

    exam.run(family, 50, exam.OURS, tmp_path / "work", repository)

    assert (repository / "models/captcha.onnx").read_text() == "bundled"
    assert not (tmp_path / "work/runs").exists()


def test_a_command_that_fails_is_named_and_ends_the_cell(
    family: Path, repository: Path, tmp_path: Path
) -> None:
    makefile = (repository / "Makefile").read_text()
    stalled = makefile.replace('\techo "$(ARGS)', "\t@echo it stalls; false #")
    (repository / "Makefile").write_text(stalled)

    outcome = exam.run(family, 50, exam.OURS, tmp_path / "work", repository)

    assert outcome.failed.startswith("make train: exit 2: it stalls")
    assert (outcome.exact, outcome.ece) == (0, None)
    assert list(outcome.seconds) == ["data", "train"]


def test_finished_cells_are_not_measured_again_but_failed_ones_are(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    done, broken, new = (("a", 50, exam.OURS), ("b", 50, exam.OURS), ("c", 50, exam.OURS))
    exam.append(results, exam.Outcome(*done, 0, 200, failed="make train: exit 1"))
    exam.append(results, exam.Outcome(*broken, 0, 200, failed="make train: exit 1"))
    exam.append(results, exam.Outcome(*done, 190, 200, 0.02, {"train": 60.0}, {"train": 90.0}))

    measured = exam.load(results)

    assert measured[done].exact_match == 0.95
    assert measured[done].minutes == 1
    assert list(exam.pending((done, broken, new), measured)) == [broken, new]
    assert list(exam.pending((done, new), measured, again=True)) == [done, new]


def test_a_refused_export_is_a_result_and_is_not_measured_again(tmp_path: Path) -> None:
    refused = exam.Outcome(
        "a", 50, exam.SEED, 0, 200, failed="make export-onnx: exit 2: reads none"
    )

    assert not list(exam.pending([("a", 50, exam.SEED)], {("a", 50, exam.SEED): refused}))
