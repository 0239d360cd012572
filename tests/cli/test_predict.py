import csv
import io
import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.api.app import create_app
from service.cli.pictures import named_pictures
from service.cli.reading import read_pictures
from service.ocr.decoding.decoder import PLAIN
from service.ocr.preprocessing import DEFAULT_MAX_PIXELS
from service.ocr.recognizer import Recognizer
from service.query_params import QueryParams
from service.settings import Settings
from tests import stripes
from tests.cli.command import COMMAND, environment, run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures on two levels, and a file that is no picture."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for name, text in {"b.png": "abcd", "a.PNG": "bd", "below/c.png": "dcba"}.items():
        (folder / name).write_bytes(stripes.picture(text))
    (folder / "notes.txt").write_text("no picture")
    return folder


def readings(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_a_folder_is_read_in_the_order_of_its_paths(folder: Path, stripe_model: Path) -> None:
    """Only pictures are read, of every level, after the arguments before the folder."""
    done = run("predict", folder / "b.png", folder, "--model", stripe_model)
    assert done.returncode == 0
    lines = [line.split("  ") for line in done.stdout.decode().splitlines()]
    assert [line[0] for line in lines] == [
        str(folder / name) for name in ("b.png", "a.PNG", "b.png", "below/c.png")
    ]
    assert [line[1] for line in lines] == ["abcd", "bd", "abcd", "dcba"]
    # Without a terminal, there is no progress bar, only what was skipped.
    assert done.stderr.decode() == (f"skipped: {folder / 'notes.txt'}: not a picture by its name\n")


def test_hidden_files_are_left_out_silently(folder: Path, stripe_model: Path) -> None:
    """File managers and notebooks leave copies in hidden files."""
    for name in (".hidden.png", "._a.png", ".ipynb_checkpoints/b-checkpoint.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(stripes.picture("ab"))
    (folder / "notes.txt").unlink()
    done = run("predict", folder, "--json", "--model", stripe_model)
    assert len(readings(done.stdout)) == 3
    assert done.stderr == b""


def test_links_that_are_not_read_are_reported(
    folder: Path, stripe_model: Path, tmp_path: Path
) -> None:
    """A link to a folder is skipped, and a link to a missing file is an error."""
    (tmp_path / "other").mkdir()
    (folder / "linked").symlink_to(tmp_path / "other")
    (folder / "gone.png").symlink_to("nowhere.png")
    done = run("predict", folder, "--model", stripe_model)
    assert done.returncode == 1
    errors = done.stderr.decode()
    assert f"skipped: {folder / 'linked'}: a link to a folder\n" in errors
    assert f"error: {folder / 'gone.png'}: No such file or directory\n" in errors


def test_folders_of_any_depth_are_read(tmp_path: Path) -> None:
    """They may be deeper than Python's stack."""
    top = place = tmp_path / "pictures"
    top.mkdir()
    try:
        for _ in range(1200):
            place = place / "a"
            place.mkdir()
        (place / "b.png").touch()
        assert named_pictures([str(top)]).pictures == [str(place / "b.png")]
    finally:
        subprocess.run(["rm", "-r", top], check=True)  # shutil.rmtree may not go so deep


def test_pipes_in_a_folder_are_skipped_and_reported(folder: Path, stripe_model: Path) -> None:
    """A pipe may have any name."""
    os.mkfifo(folder / "pipe.png")
    (folder / "linked.png").symlink_to("pipe.png")
    done = run("predict", folder, "--model", stripe_model)
    assert done.returncode == 0
    for name in ("pipe.png", "linked.png"):
        assert f"skipped: {folder / name}: not a regular file\n" in done.stderr.decode()


def test_a_file_that_becomes_a_pipe_is_not_waited_for(folder: Path, recognizer: Recognizer) -> None:
    """Nobody may ever write to the pipe."""
    os.mkfifo(folder / "pipe.png")
    (outcome,) = read_pictures(recognizer, [str(folder / "pipe.png")], PLAIN, 1)
    assert str(outcome[1]).startswith("[Errno 22] Not a regular file")


def test_a_pipe_given_as_argument_is_read(tmp_path: Path, stripe_model: Path) -> None:
    """The command waits for it. A shell's `<(command)` is such a pipe."""
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(
        [*COMMAND, "predict", str(tmp_path / "pipe"), "--model", str(stripe_model)],
        env=environment(), stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        (tmp_path / "pipe").write_bytes(stripes.picture("ab"))
        output, _ = process.communicate()
    assert output.split()[1] == b"ab"


def test_ten_skipped_files_are_named_and_the_rest_counted(folder: Path, stripe_model: Path) -> None:
    for number in range(30):
        (folder / f"{number}.xml").touch()
    *named, last = run("predict", folder, "--model", stripe_model).stderr.decode().splitlines()
    assert len(named) == 10
    assert last == "skipped: 21 more files"


def test_the_least_confident_readings_come_first(folder: Path, stripe_model: Path) -> None:
    """They are most worth a label. Gray between two symbols is read with little confidence."""
    unsure = stripes.draw("abcd").point(lambda level: level + 31)
    (folder / "unsure.png").write_bytes(stripes.encode(unsure))
    arguments = ("predict", folder, "--json", "--model", stripe_model)
    every = readings(run(*arguments).stdout)
    expected = sorted(every, key=lambda reading: reading["confidence"])
    found = readings(run(*arguments, "--least-sure", 2).stdout)
    assert found == expected[:2]
    assert found[0]["file"] == str(folder / "unsure.png")
    assert readings(run(*arguments, "--least-sure", 99).stdout) == expected


def test_the_threshold_of_the_model_is_the_default(folder: Path, tmp_path: Path) -> None:
    """An option or a variable replaces it."""
    model = stripes.write_model(tmp_path / "strict.onnx", min_confidence=0.9)
    unsure = stripes.draw("abcd").point(lambda level: level + 31)
    (folder / "unsure.png").write_bytes(stripes.encode(unsure))
    arguments = ("predict", folder / "unsure.png", "--json", "--model", model)
    accepted = [
        readings(run(*arguments, *more).stdout)[0]["accepted"]
        for more in ((), ("--min-confidence", 0))
    ]
    assert accepted == [False, True]
    (with_variable,) = readings(run(*arguments, OCR_MIN_CONFIDENCE="0.5").stdout)
    assert with_variable["accepted"]


def test_json_lines_equal_the_answers_of_the_service(folder: Path, stripe_model: Path) -> None:
    """They have the same members and values as over HTTP, plus the file."""
    done = run(
        "predict", folder / "b.png", "--json", "--alternatives", 2, "--min-confidence", 0.5,
        OCR_MODEL_PATH=str(stripe_model),
    )  # fmt: skip
    with TestClient(create_app(Settings(model_path=stripe_model))) as client:
        answer = client.post(
            "/predict",
            files={"file": (folder / "b.png").read_bytes()},
            params={"alternatives": 2, "min_confidence": 0.5},
        ).json()
    assert len(answer["alternatives"]) == 2
    assert readings(done.stdout) == [{"file": str(folder / "b.png"), **answer}]


def test_csv_has_a_column_for_every_alternative(folder: Path, stripe_model: Path) -> None:
    """The rows are as long as the header, and have the values of the JSON lines."""
    arguments = ("predict", folder, "--alternatives", 2, "--model", stripe_model)
    rows = list(csv.DictReader(io.StringIO(run(*arguments, "--csv").stdout.decode())))
    answers = readings(run(*arguments, "--json").stdout)
    assert len(rows) == 3
    for row, answer in zip(rows, answers, strict=True):
        assert row["path"] == answer["file"]
        assert row["label"] == answer["text"]
        assert float(row["confidence"]) == answer["confidence"]
        assert row["accepted"] == "true"
        assert row["model_version"] == answer["model"]["version"]
        others = [row["alternative_1"], row["alternative_2"]]
        assert others == [other["text"] for other in answer["alternatives"]]
        assert None not in row


def test_bad_files_are_named_at_the_end(folder: Path, stripe_model: Path) -> None:
    """The other files are read. The exit status is 1."""
    broken = folder / "a-broken.png"
    broken.write_bytes(stripes.picture("ab")[:40])
    missing = folder / "missing.png"
    done = run("predict", missing, folder, folder / "notes.txt", "--json", "--model", stripe_model)
    assert done.returncode == 1
    assert [reading["text"] for reading in readings(done.stdout)] == ["bd", "abcd", "dcba"]
    skipped, first, second, third, summary = done.stderr.decode().splitlines()
    assert skipped.startswith("skipped: ")
    assert first == f"error: {missing}: No such file or directory"
    assert second.startswith(f"error: {broken}: The PNG")
    assert third.startswith(f"error: {folder / 'notes.txt'}: Not a picture in a format")
    assert summary == "3 of 6 pictures could not be read."


def test_a_file_of_gigabytes_is_not_read(folder: Path, stripe_model: Path) -> None:
    """The other files are read."""
    huge = folder / "huge.png"
    with huge.open("wb") as sparse:
        sparse.truncate(1 << 40)
    done = run("predict", folder, "--json", "--model", stripe_model)
    assert done.returncode == 1
    assert [reading["text"] for reading in readings(done.stdout)] == ["bd", "abcd", "dcba"]
    assert f"error: {huge}: File too large" in done.stderr.decode().splitlines()


def test_a_dash_stands_for_a_picture_on_the_standard_input(stripe_model: Path) -> None:
    done = run("predict", "-", "--model", stripe_model, stdin=stripes.picture("cab"))
    assert done.stdout.split()[:2] == [b"-", b"cab"]


def test_options_and_variables_constrain_the_text(folder: Path, stripe_model: Path) -> None:
    """A text below the least confidence is marked."""
    done = run(
        "predict", folder / "b.png", "--pattern", "[a-d]{2}", "--min-confidence", 0.9,
        "--model", stripe_model, OCR_ALPHABET="ab",
    )  # fmt: skip
    file, text, _, remark = done.stdout.decode().strip().split("  ")
    assert file == str(folder / "b.png")
    assert len(text) == 2
    assert set(text) <= set("ab")
    assert remark == "not accepted"


def test_every_parameter_of_the_service_is_an_option(folder: Path, stripe_model: Path) -> None:
    """Each option has the parameter's description. One parameter has no setting."""
    shown = " ".join(run("predict", "--help").stdout.decode().split())
    for name, field in QueryParams.model_fields.items():
        option = f"--{name.replace('_', '-')} "
        assert field.description is not None
        help_text = shown.partition(option)[2].partition(" --")[0]
        assert field.description in help_text
        assert (f"[env var: OCR_{name.upper()}" in help_text) == (name in Settings.model_fields)
    done = run("predict", folder / "b.png", "--json", "--matrix", "--model", stripe_model)
    assert readings(done.stdout)[0]["matrix"]["symbols"][:2] == ["a", "b"]


def test_the_pixel_limit_is_that_of_the_service(folder: Path, stripe_model: Path) -> None:
    """A variable sets it, and an option overrides it. The error is that of the service."""
    pixels = 2 * stripes.WIDTH * (stripes.HEIGHT + 1)  # a pixel of a gray PNG counts as two
    file = folder / "b.png"
    file.write_bytes(stripes.encode(stripes.draw("abcd", height=stripes.HEIGHT + 1)))
    arguments = ("predict", file, "--json", "--model", stripe_model)
    done = run(*arguments, OCR_MAX_PIXELS=str(pixels - 1))
    assert (done.returncode, done.stdout) == (1, b"")
    settings = Settings(model_path=stripe_model, max_pixels=pixels - 1)
    with TestClient(create_app(settings)) as client:
        problem = client.post("/predict", files={"file": file.read_bytes()}).json()
    assert problem["type"] == "/problems/picture-too-large"
    assert done.stderr.decode().startswith(f"error: {file}: {problem['detail']}\n")
    done = run(*arguments, "--max-pixels", pixels, OCR_MAX_PIXELS="1")
    assert [reading["text"] for reading in readings(done.stdout)] == ["abcd"]
    shown = " ".join(run("predict", "--help").stdout.decode().split())
    assert f"[env var: OCR_MAX_PIXELS; default: {DEFAULT_MAX_PIXELS}; x>=1]" in shown


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--length", "0"), "length: '0' was given; give a number from 1 to 999, like 5"),
        (("--pattern", ""), "pattern: '' was given; String should have at least 1 character"),
        (("--alphabet", "xyz"), "the alphabet 'abcd' lacks"),
        (("--alternatives", "11"), "less than or equal to 10"),
        (("--json", "--csv"), "--json and --csv exclude each other"),
    ],
)
def test_an_invalid_option_is_explained(
    arguments: tuple[str, ...], complaint: str, folder: Path, stripe_model: Path
) -> None:
    """The exit status is 2, the standard output is empty, and the error says what is right."""
    done = run("predict", folder, "--model", stripe_model, *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert complaint in " ".join(done.stderr.decode().split())
    assert b"Traceback" not in done.stderr


def test_a_folder_without_pictures_is_an_error(tmp_path: Path, stripe_model: Path) -> None:
    """The error names the folder and the suffixes of pictures."""
    done = run("predict", tmp_path, "--model", stripe_model)
    assert done.returncode == 2
    error = " ".join(done.stderr.decode().split())
    assert f"{tmp_path} has no pictures in it; they end with" in error
    assert ".png" in error


def test_the_command_ends_when_its_output_is_closed(folder: Path, stripe_model: Path) -> None:
    """As with `| head -1`, there is no traceback and no wait for thousands of pictures."""
    files = [str(folder / "b.png")] * 5000
    with subprocess.Popen(
        [*COMMAND, "predict", *files, "--json", "--model", str(stripe_model)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["text"] == "abcd"
        process.stdout.close()
        complaints = process.stderr.read()
    assert process.returncode == 1
    assert complaints == b""


def test_a_full_disk_is_reported(folder: Path, stripe_model: Path) -> None:
    """The error is one sentence, with exit status 1."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "predict", str(folder), "--csv", "--model", str(stripe_model)],
            env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: the results cannot be written: No space left on device\n"


def test_any_file_name_can_be_printed(stripe_model: Path, tmp_path: Path) -> None:
    """This includes a name that is no UTF-8, in every format."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    file = os.path.join(os.fsencode(folder), b"\xff\n.png")  # noqa: PTH118
    with open(file, "wb") as picture:  # noqa: PTH123
        picture.write(stripes.picture("ab"))
    for form in ([], ["--json"], ["--csv"]):
        done = run("predict", folder, "--model", stripe_model, *form)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"\\udcff" in done.stdout


def test_control_characters_of_file_names_are_escaped(stripe_model: Path, tmp_path: Path) -> None:
    """Output for people has escapes in their place. Tables have the name unchanged."""
    name = "\x1b]0;title\x07\u202e"
    (tmp_path / f"{name}.png").write_bytes(stripes.picture("ab"))
    (tmp_path / f"{name}bad.png").write_bytes(b"bad")
    (tmp_path / f"{name}.txt").touch()
    done = run("predict", tmp_path, "--model", stripe_model)
    shown = r"\x1b]0;title\x07\u202e"
    assert f"{shown}.png  ab" in done.stdout.decode()
    assert f"skipped: {tmp_path / shown}.txt" in done.stderr.decode()
    assert f"error: {tmp_path / shown}bad.png" in done.stderr.decode()
    table = run("predict", tmp_path, "--csv", "--model", stripe_model)
    assert f"{name}.png" in table.stdout.decode()


def test_a_terminal_shows_a_progress_bar(folder: Path, stripe_model: Path) -> None:
    """The bar is on the standard error, and not in the results."""
    terminal, side = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "predict", str(folder), "--json", "--model", str(stripe_model)],
        env=environment(TERM="xterm"), stdout=subprocess.PIPE, stderr=side, check=True,
    )  # fmt: skip
    os.close(side)
    assert b"3/3" in os.read(terminal, 1 << 16)
    os.close(terminal)
    assert len(readings(done.stdout)) == 3


@pytest.mark.parametrize("options", [[], ["--least-sure", "2"]])
def test_a_progress_bar_is_not_mixed_with_results(
    options: list[str], folder: Path, stripe_model: Path
) -> None:
    """A terminal with results shows the bar only if the results come at the end."""
    terminal, side = pty.openpty()
    command = [*COMMAND, "predict", str(folder), *options, "--model", str(stripe_model)]
    subprocess.run(command, env=environment(TERM="xterm"), stdout=side, stderr=side, check=True)
    os.close(side)
    assert (b"3/3" in os.read(terminal, 1 << 16)) is bool(options)
    os.close(terminal)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_keep_their_order_and_few_pictures_are_taken_ahead(
    threads: int, folder: Path, recognizer: Recognizer
) -> None:
    """With any number of threads, only a few batches are in work."""
    texts = ("b.png", "a.PNG", "below/c.png", "missing")
    taken = 0

    def pictures() -> Any:
        nonlocal taken
        for number in range(403):
            taken += 1
            yield str(folder / texts[number % 4])

    for number, (file, outcome) in enumerate(read_pictures(recognizer, pictures(), PLAIN, threads)):
        assert taken - number <= 8 * 2 * threads
        assert file == str(folder / texts[number % 4])
        expected = ("abcd", "bd", "dcba", None)[number % 4]
        assert getattr(outcome, "text", None) == expected
    assert number == 402
