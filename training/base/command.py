"""`make base`: makes the model that trainings start from, or resumes an interrupted training.

Fetches the fonts with npm if they are missing, draws pictures in very many styles while it trains
on them, and writes models/base.npz and models/base.onnx at the end. Takes the time that --minutes
says, about 1.5 GB of disk, and 3 GB of memory. To resume after an interruption, run it again.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from training.base.fonts import fetch
from training.settings import Parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("base", __doc__)
    add = parser.add_argument
    add("--sheet", type=Path, help="write a PNG of pictures that it trains on, and stop")
    add("--minutes", type=float, default=720, help="training time in all; default: %(default)s")
    add("--fonts", type=Path, help="a folder of fonts; default: <out>/fonts, fetched with npm")
    add("--out", type=Path, default=Path("runs/base"), help="default: %(default)s")
    add("--models", type=Path, default=Path("models"), help="folder of the base")
    add("--batch-size", type=int, default=128, help="default: %(default)s")
    add("--steps", type=int, default=50, help="steps between lines of the log; %(default)s")
    add("--every", type=float, default=900, help="seconds between measurements; %(default)s")
    add("--processes", type=int, default=1, help="processes that draw; default: %(default)s")
    add("--capacity", type=int, default=40_000, help="pictures in the pool, 30 KB each")
    add("--uses", type=float, default=4.0, help="average uses of a picture; default: %(default)s")
    add("--pool", type=Path, help="folder of the pool; default: the temporary folder")
    add("--first", type=int, default=4_000, help="pictures to draw before training begins")
    add("--validation", type=int, default=300, help="pictures of each kind")
    add("--seed", type=int, default=1, help="seed of the pictures; default: %(default)s")
    add("--bfloat16", action="store_true", help="compute in bfloat16, for GPUs")
    arguments = parser.parse_args(argv)
    arguments.fonts = arguments.fonts or arguments.out / "fonts"
    if not any(arguments.fonts.glob("*.ttf")):
        print(f"fetching fonts into {arguments.fonts}: a few minutes, 600 MB for a while")
        print(f"{fetch(arguments.fonts)} fonts")
    if arguments.sheet:
        from training.base.pool import load_fonts
        from training.base.sheet import write_sheet

        write_sheet(arguments.sheet, load_fonts(arguments.fonts), arguments.seed)
        return
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        from training.tensorflow_import import import_tensorflow

        import_tensorflow()
    from training.base.train import train

    train(arguments)
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        print("run again with KERAS_BACKEND=tensorflow for base.onnx")
        return
    from training.base.export import export

    export(arguments.out / "base.npz", arguments.fonts, arguments.models)
