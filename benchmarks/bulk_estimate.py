"""Estimates how long reading in bulk takes on many machines; nothing is run.

Assumptions:

- A picture costs the CPU time that `make bench-bulk` measures for tars. A core does not slow down
  beside others, and the network gives each core the few megabytes a second that it reads.
- A shard has 20,000 pictures, and a core reads one shard at a time.
- Ray starts in a minute. For each shard, the driver needs the CPU time that `make bench-bulk`
  measures, on a core of its own.
- The driver lists loose objects, 1,000 in a request of LIST_MS, one request after the other.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.markdown import table

PICTURE_BYTES = 8500
SHARD = 20_000
START_SECONDS = 60
LIST_MS = 100
LISTED = 1000
CORES = (2, 16, 64, 256, 1000)
PICTURES = (10**6, 10**7, 10**8, 10**9)


@dataclass(frozen=True)
class BulkEstimate:
    """Times of reading in bulk.

    Attributes:
        cpu_ms: CPU milliseconds for a picture.
        driver_ms: CPU milliseconds of the driver for a shard.
    """

    cpu_ms: float
    driver_ms: float

    def reading_seconds(self, pictures: int, cores: int) -> float:
        """Seconds from the start of Ray to the last row, for packed pictures."""
        shards = math.ceil(pictures / SHARD)
        by_cores = math.ceil(shards / cores) * self.shard_seconds
        by_driver = shards * self.driver_ms / 1000
        return START_SECONDS + max(by_cores, by_driver)

    @property
    def shard_seconds(self) -> float:
        """Seconds in which a core reads a shard."""
        return SHARD * self.cpu_ms / 1000

    def section(self) -> Iterator[str]:
        """A table of the times, and the load of the object store and the driver, as Markdown."""
        rows = [
            [str(cores), *(_words(self.reading_seconds(pictures, cores)) for pictures in PICTURES)]
            for cores in CORES
        ]
        listing = [_words(listing_seconds(pictures)) for pictures in PICTURES]
        head = ["cores", *(f"{_power(pictures)} pictures" for pictures in PICTURES)]
        yield table(head, [*rows, ["listing of loose objects", *listing]])
        most, largest = CORES[-1], PICTURES[-1]
        megabytes = SHARD * PICTURE_BYTES / 1e6
        yield (
            f"{_power(largest)} pictures are {largest // SHARD:,} shards of {megabytes:.0f} MB and "
            f"{self.shard_seconds:.0f} s. {most} cores finish {most / self.shard_seconds:.0f} of "
            f"them a second, and read {most * PICTURE_BYTES / self.cpu_ms / 1e6:.1f} GB a second "
            f"from the object store. The driver needs {self.driver_ms:.1f} CPU-ms for a shard, so "
            f"it can hand out {1000 / self.driver_ms:.0f} a second: it would be the limit with "
            "shards of a few pictures.\n"
        )

    def draw(self, path: Path) -> None:
        """Draws a chart of the hours by the number of cores."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt

        cores = [2**power for power in range(1, 11)]
        figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
        for place, pictures in enumerate(PICTURES):
            label = f"$10^{{{len(str(pictures)) - 1}}}$ pictures"
            hours = [self.reading_seconds(pictures, number) / 3600 for number in cores]
            loose = [hour + listing_seconds(pictures) / 3600 for hour in hours]
            axes.plot(cores, hours, "-", color=f"C{place}", lw=2, label=label)
            axes.plot(cores, loose, ":", color=f"C{place}", lw=1.5)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(cores, [str(number) for number in cores])
        axes.set_yticks([1 / 60, 1 / 6, 1, 10, 100], ["1 min", "10 min", "1 h", "10 h", "100 h"])
        axes.set_xlabel("cores")
        axes.set_title("Estimate: packed in shards (solid), loose in an object store (dotted)")
        axes.grid(True, which="major", alpha=0.3)
        axes.legend()
        figure.savefig(path, dpi=100)
        plt.close(figure)


def listing_seconds(pictures: int) -> float:
    """Seconds that listing loose pictures takes, before the first one is read."""
    return pictures / LISTED * LIST_MS / 1000


def _power(pictures: int) -> str:
    return "10" + str(len(str(pictures)) - 1).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _words(seconds: float) -> str:
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"
