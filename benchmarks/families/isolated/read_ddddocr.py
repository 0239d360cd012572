"""Read pictures with ddddocr, which is trained already and is given no labels.

Takes a path a line on standard input, and prints the texts as a JSON array.
"""

import json
import sys
from pathlib import Path

from ddddocr import DdddOcr


def main() -> None:
    reader = DdddOcr(show_ad=False)
    paths = [Path(line) for line in sys.stdin.read().splitlines()]
    print(json.dumps([reader.classification(path.read_bytes()) for path in paths]))


if __name__ == "__main__":
    main()
