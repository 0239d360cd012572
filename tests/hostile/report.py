"""Makes docs/reliability.md from the figures of the last hostile tests and the last soak."""

import json
from pathlib import Path
from typing import Any

from benchmarks.markdown import table
from service.server.protocol import MIN_CHUNK_BYTES
from tests.hostile.record import RESULTS

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"

_HEAD = """# Reliability

Written by `make reliability` from what `make test-hostile`, `make test-soak` and
`make test-container-hostile` have measured. Each starts a service with the bundled model, the last
one in a container, and attacks it over real sockets. A proof that was not run says so. The tests
check ratios and counts; times depend on the machine, and on what else it did.
"""


def _figures(proof: str) -> dict[str, Any]:
    path = RESULTS / f"{proof}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _bodies(f: dict[str, Any]) -> str:
    return (
        f"both 413 with the same body; refused after {f['declared_sent']} and {f['chunked_sent']} "
        f"bytes; after {f['one_byte_chunks']} bodies of 1 MB in chunks of {MIN_CHUNK_BYTES} bytes, "
        f"read, and as many in chunks of one byte, refused with 400, resident memory "
        f"+{f['growth_bytes'] / 2**20:.2f} MiB"
    )


def _memory(f: dict[str, Any]) -> str:
    worst = max(f["growth_bytes"], key=f["growth_bytes"].get)
    return (
        f"{f['each']} of each of {len(f['growth_bytes'])} kinds of 8 MB; the most that stayed: "
        f"{f['growth_bytes'][worst] / 1e6:+.1f} MB (*{worst}*)"
    )


def _pictures(f: dict[str, Any]) -> str:
    dearest = max(f["refused_cpu_ms"], key=f["refused_cpu_ms"].get)
    return (
        f"refused {f['refused_each']} times each; the dearest, *{dearest}*, for "
        f"{f['refused_cpu_ms'][dearest]:.2f} CPU-ms (reading a normal picture: "
        f"{f['normal_cpu_ms']:.2f}); memory at its peak +{f['peak_growth_bytes'] / 1e6:.1f} MB, "
        f"with 20 at once +{f['together_peak_growth_bytes'] / 1e6:.1f} MB"
    )


def _corpus(f: dict[str, Any]) -> str:
    return (
        f"{f['valid']} sound ones, {f['broken']} broken ones, {f['foreign']} of other formats: "
        f"{f['wrong']} wrong answers, the process the same"
    )


def _fairness(f: dict[str, Any]) -> str:
    return (
        f"a client with {f['rate']:g} pictures a second has {f['beside']:.1%} of them read beside "
        f"{f['senders']} such senders, and {f['alone']:.1%} alone"
    )


def _requests(f: dict[str, Any]) -> str:
    kept = ", ".join(f"{share:.1%} (*{kind}*)" for kind, share in f["kept"].items())
    return f"a good client's answers beside those of another, of what it has alone: {kept}"


def _mutants(f: dict[str, Any]) -> str:
    statuses = ", ".join(f"{number} × {status}" for status, number in f["statuses"].items())
    return (
        f"{f['mutants']} mutants (seed {f['seed']}): {statuses}; neither 200 nor 4xx: "
        f"{f['wrong']}; p99.9 {f['p999_ms']:.0f} ms from two clients on the service's own cores"
    )


def _connections(f: dict[str, Any]) -> str:
    held = ", ".join(
        f"{number} {way.replace('_', ' ')} ({f['longest_seconds'][way]:.1f} s)"
        for way, number in f["clients"].items()
    )
    return (
        f"at once, with a deadline of {f['deadline_seconds']:g} s; the longest that one of them "
        f"held its connection: {held}; meanwhile a good client's requests all read, median "
        f"{f['median_ratio']:.1f} × and p99 {f['p99_ratio']:.1f} × base"
    )


def _disconnects(f: dict[str, Any]) -> str:
    before_after = (
        f"{name.replace('_', ' ')} {f[name][0]} → {f[name][1]}"
        for name in ("descriptors", "threads", "temporary_files")
    )
    return f"{f['disconnects']} uploads broken off: {', '.join(before_after)}"


def _soak(f: dict[str, Any]) -> str:
    slope, error = (value / 1e6 for value in f["bytes_per_hour"])
    short = "**too short to judge by**: " if f["minutes"] < 30 else ""
    return (
        f"{short}{f['minutes']:g} minutes, {f['requests']} requests: resident memory {slope:+.1f} "
        f"(± {error:.1f}) MB/h after warm-up, descriptors {f['descriptors'][0]} → "
        f"{f['descriptors'][1]}, threads {f['threads'][0]} → {f['threads'][1]}"
    )


def _leak(f: dict[str, Any]) -> str:
    clean, leaky = f["service"], f["tests.hostile.leaky"]
    return (
        f"a deliberate leak of 1024 bytes a request is seen as {leaky[0]:.0f} over {leaky[2]} "
        f"requests; without it {clean[0]:.0f} over {clean[2]}"
    )


def _container(f: dict[str, Any]) -> str:
    killed = "**killed for want of memory**" if f["killed"] else "no OOM kill, the process the same"
    answers = ", ".join(f"{number} × {status}" for status, number in f["statuses"].items())
    return (
        f"idle {f['idle_bytes'] / 1e6:.1f} MB, limit {f['limit_bytes'] / 1e6:.1f} MB without swap: "
        f"{killed}; in {f['seconds']:.0f} s {f['clients']} slow clients, and "
        f"{answers}, wrong {f['wrong']}; peak {f['peak_bytes'] / 1e6:.1f} MB, as `docker stats` "
        f"counts it, by cgroup v{f['group_version']}"
    )


_PROOFS = (
    ("1", "bodies of 5 MB, and of tiny chunks", "+1 MiB", "bodies", _bodies),
    ("1", "large requests that are refused", "+10 MB", "memory", _memory),
    ("2", "pictures that claim much", "2 × a normal picture, +20 MB", "pictures", _pictures),
    ("3", "a corpus of pictures", "no 5xx", "corpus", _corpus),
    ("3", "senders of the dearest pictures that are accepted", "90 % of its answers", "fairness",
     _fairness),
    ("3", "senders of requests that cost much more than a picture", "80 % of its answers",
     "requests", _requests),
    ("4", "mutants of PNGs", "no 5xx, p99.9 100 ms", "mutants", _mutants),
    ("5", "slow clients", "the deadline (*never read*: once answers pile up), p99 2 × base",
     "connections", _connections),
    ("6", "disconnects", "nothing left", "disconnects", _disconnects),
    ("7", "soak, 30 minutes", "1 MB/h", "soak", _soak),
    ("7", "the soak's detector", "found", "leak", _leak),
    ("8", "the same, 1 to 5 together, in a container with 1.5 × the idle memory", "no OOM kill",
     "container", _container),
)  # fmt: skip

_COMMANDS = {"soak": "make test-soak", "container": "make test-container-hostile"}


def page() -> str:
    """The document."""
    rows = []
    for number, name, bound, proof, words in _PROOFS:
        command = _COMMANDS.get(proof, "make test-hostile")
        figures = _figures(proof)
        try:
            measured = words(figures)
            when = f"{figures['date']}, load {figures['load_average']}, {figures['cores']} cores"
        except KeyError:
            measured = when = "not run, or not to its end"
        rows.append([number, name, bound, measured, f"`{command}`", when])
    head = ["proof", "of", "bound", "measured", "command", "when"]
    return _HEAD + "\n" + table(head, rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
