import subprocess
import sys

import pytest

from training.__main__ import VERBS, main


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help says what the verb does, and fits on two screens."""
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m training {verb}")
    assert len(text.splitlines()) < 60


def test_all_verbs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """The list comes without a verb, and on request."""
    assert main([]) == main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {verb} " in text for verb in VERBS)


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["trian"], 2, "there is no verb trian; did you mean train?"),
        (["train", "--recipe", "rubost"], 1, "there is no recipe rubost; did you mean robust?"),
        (["train", "--epoch", "3"], 2, "there is no option --epoch; did you mean --epochs"),
        (["train", "--architecture", "rcnn"], 2, "'rcnn' is not known; did you mean crnn?"),
        (["train", "--data", "nowhere"], 1, "nowhere/labels.csv does not exist; `make data`"),
        (["export", "--runs", "nowhere"], 1, "nowhere holds no run; `make train` makes one."),
    ],
)
def test_a_mistake_gives_one_clear_sentence(
    arguments: list[str], status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence proposes similar names; exit status 2 means that the command line is wrong."""
    try:
        found = main(arguments)
    except SystemExit as ended:
        found = ended.code  # type: ignore[assignment]
    assert found == status
    assert sentence in capsys.readouterr().err


def test_help_and_errors_do_not_import_tensorflow() -> None:
    """Keras and tf2onnx are not imported either."""
    script = (
        "import sys\n"
        "from training.__main__ import VERBS, main\n"
        "for arguments in [['train', '--data', 'nowhere'], *([v, '--help'] for v in VERBS)]:\n"
        "    try: main(arguments)\n"
        "    except SystemExit: pass\n"
        "sys.exit(sorted({'tensorflow', 'keras', 'tf2onnx'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
