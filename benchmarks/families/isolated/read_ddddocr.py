"""Read pictures with ddddocr, a trained model that gets no labels.

Reads paths from the standard input, one a line, and prints the texts as a JSON array.
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
