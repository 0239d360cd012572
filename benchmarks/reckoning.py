"""`python -m benchmarks.reckoning`: how long reading in bulk takes.

Nothing is run. Writes a table, and the chart `docs/bulk.png`. What is assumed:

- A picture costs CPU_MS of a core, as `make bench-bulk` measures it. A core does not slow down
  beside others, and a network gives each core the few megabytes a second that it reads.
- Shards have 20,000 pictures, and a core reads one at a time.
- Ray starts in a minute. The driver needs DRIVER_MS for each shard, on a core of its own.
- Loose objects are listed by the driver, 1,000 in a request of LIST_MS, one after the other.
"""

import argparse
import math
from pathlib import Path

CPU_MS = 4.4
PICTURE_BYTES = 8500
SHARD = 20_000
DRIVER_MS = 1.1
START_SECONDS = 60
LIST_MS = 100
LISTED = 1000
CORES = (2, 16, 64, 256, 1000)
PICTURES = (10**6, 10**7, 10**8, 10**9)


def reading_seconds(pictures: int, cores: int) -> float:
    """From the start of Ray to the last row, of packed pictures."""
    shards = math.ceil(pictures / SHARD)
    by_cores = math.ceil(shards / cores) * SHARD * CPU_MS / 1000
    by_driver = shards * DRIVER_MS / 1000
    return START_SECONDS + max(by_cores, by_driver)


def listing_seconds(pictures: int) -> float:
    """Before the first loose picture is read."""
    return pictures / LISTED * LIST_MS / 1000


def draw(path: Path) -> None:
    """A chart of the hours by the number of cores."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    cores = [2**power for power in range(1, 11)]
    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    for place, pictures in enumerate(PICTURES):
        label = f"$10^{{{len(str(pictures)) - 1}}}$ pictures"
        hours = [reading_seconds(pictures, number) / 3600 for number in cores]
        loose = [hour + listing_seconds(pictures) / 3600 for hour in hours]
        axes.plot(cores, hours, "-", color=f"C{place}", lw=2, label=label)
        axes.plot(cores, loose, ":", color=f"C{place}", lw=1.5)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(cores, [str(number) for number in cores])
    axes.set_yticks([1 / 60, 1 / 6, 1, 10, 100], ["1 min", "10 min", "1 h", "10 h", "100 h"])
    axes.set_xlabel("cores")
    axes.set_title("Reckoned: packed in shards (solid), loose in an object store (dotted)")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reckoning", description=__doc__)
    parser.add_argument("--chart", type=Path, default=Path("docs/bulk.png"))
    arguments = parser.parse_args()
    print("| cores | " + " | ".join(f"{pictures:,} pictures" for pictures in PICTURES) + " |")
    print("| --: |" + " --: |" * len(PICTURES))
    for cores in CORES:
        times = (reading_seconds(pictures, cores) for pictures in PICTURES)
        print(f"| {cores} | " + " | ".join(_words(seconds) for seconds in times) + " |")
    listing = (listing_seconds(pictures) for pictures in PICTURES)
    print(
        "| listing of loose objects | " + " | ".join(_words(seconds) for seconds in listing) + " |"
    )
    most, largest, shard_seconds = CORES[-1], PICTURES[-1], SHARD * CPU_MS / 1000
    print(
        f"{largest:,} pictures are {largest // SHARD:,} shards of "
        f"{SHARD * PICTURE_BYTES / 1e6:.0f} MB and {shard_seconds:.0f} s. {most} cores finish "
        f"{most / shard_seconds:.0f} shards and read "
        f"{most * PICTURE_BYTES / CPU_MS / 1e6:.1f} GB a second; the driver can hand out "
        f"{1000 / DRIVER_MS:.0f} shards a second."
    )
    draw(arguments.chart)


def _words(seconds: float) -> str:
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"


if __name__ == "__main__":
    main()
