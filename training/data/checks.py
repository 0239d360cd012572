"""Checks labelled pictures before training, and describes what it finds."""

import html
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median, mode
from urllib.parse import unquote

from service.ocr.decoding.ctc import shortest_path
from service.ocr.preprocessing import decode_gray
from training.data.dataset import (
    Dataset,
    Sample,
    alphabet_of,
    longest_usual,
    picture_size_of,
    time_steps_of,
    working_size,
)
from training.data.legibility import MOST_MEASURED, colour_carries_text, lines_of_text
from training.data.split import FEWEST_SAMPLES, split_by_content

FLAT = 0.02
"""Standard deviation of gray, 0 to 1, below which a picture counts as blank."""

_FEW_TO_TEST = 10
_RARE = 3
_NEAR = 0.8
_ODD_SIZE = 2.5
_NARROW = 5
_MOST_NAMED = 5
_MOST_SYMBOLS = 200
_FOREIGN = 0.05
_SHORTER = 0.2
_MISSING = {"nan", "none", "null", "n/a", "#n/a", "<na>", "undefined", "#name?", "#value!", "#ref!"}
"""Texts that programs write for a missing value, in small letters."""

_MANY_MISSING = 0.005
_FLOAT = re.compile(r"\d+\.0")
_ROUNDED = re.compile(r"\d(\.\d+)?E\+\d+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Look:
    """Findings about the pixels.

    Args:
        flat: pictures without contrast in gray.
        colour: whether colour carries the text of the pictures.
        stacked: share of the pictures with several lines of text.

    `colour` and `stacked` are measured on at most 200 pictures.
    """

    flat: Sequence[Sample]
    colour: bool
    stacked: float


def look_at(dataset: Dataset, flat: Sequence[Sample]) -> Look:
    """Looks at pictures of a set; `flat` are the pictures without contrast in gray."""
    # Ordered by content: neighbours in a folder may be of one family.
    chosen = sorted(dataset.samples, key=lambda sample: sample.sha256)[:MOST_MEASURED]
    # Read twice to save memory: a few kilobytes of a zip can be a picture of 64 MB.
    lines = [lines_of_text(decode_gray(dataset.read(sample))) for sample in chosen]
    stacked = sum(count > 1 for count in lines) / max(1, len(lines))
    return Look(flat, colour_carries_text(map(dataset.read, chosen)), stacked)


def describe(samples: Sequence[Sample]) -> Iterator[str]:
    """Describes at least one sample in lines: numbers, alphabet by script, sizes, time steps."""
    lengths = sorted({len(sample.label) for sample in samples})
    texts = len({sample.label for sample in samples})
    between = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
    yield f"{counted(len(samples), 'picture')}, {texts} different labels of {between} characters"
    alphabet = alphabet_of(samples)
    yield counted(len(alphabet), "symbol")
    groups: dict[str, list[str]] = defaultdict(list)
    for symbol in alphabet:
        groups[_group(symbol)].append(symbol)
    for group, symbols in groups.items():
        more = f" … and {len(symbols) - _MOST_SYMBOLS} more" * (len(symbols) > _MOST_SYMBOLS)
        shown = "".join(map(visible, symbols[:_MOST_SYMBOLS]))
        yield f"  {group}, {len(symbols)}: {shown}{more}"
    sizes = Counter((sample.width, sample.height) for sample in samples)
    size = picture_size_of(samples)
    if len(sizes) == 1:
        yield f"every picture has {size[0]}×{size[1]} pixels"
    else:
        widths, heights = zip(*sizes, strict=True)
        yield (
            f"{len(sizes)} sizes of {min(widths)} to {max(widths)} × {min(heights)} to "
            f"{max(heights)} pixels; the median is {size[0]}×{size[1]}"
        )
    width, height = working_size(samples)
    longest = max((sample.label for sample in samples), key=shortest_path)
    yield (
        f"a model takes them as {width}×{height}, in {time_steps_of(width)} time steps, of which "
        f"the longest label, {longest!r}, needs {shortest_path(longest)}"
    )


def _group(symbol: str) -> str:
    kind = unicodedata.category(symbol)
    if symbol.isascii() and symbol.isdecimal():
        return "digits"
    if kind[0] == "L":
        script = _script(symbol)
        case = {"Lu": "capital letters", "Ll": "small letters"}.get(kind, "letters")
        return f"{script} {case}"
    if kind[0] in "PS":
        return "punctuation and signs"
    return "other characters"


def _script(symbol: str) -> str:
    script = unicodedata.name(symbol, "unknown").partition(" ")[0]
    return script if script == "CJK" else script.title()


def visible(symbol: str) -> str:
    """A symbol, or its code point if it is invisible."""
    return symbol if symbol.isprintable() and not symbol.isspace() else f"U+{ord(symbol):04X}"


def counted(count: int, noun: str) -> str:
    """A number and a noun, with an s in the plural."""
    return f"{count} {noun}" + "s" * (count != 1)


def named(names: Sequence[str], most: int = _MOST_NAMED) -> str:
    """The first names, and the number of the others."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" … and {more} more" if more > 0 else "")


def doubts_about(samples: Sequence[Sample]) -> list[str]:
    """Reasons to doubt the labels as a whole."""
    labels = [sample.label for sample in samples]
    doubts = []
    if len(labels) > 2 and len(set(labels)) == 1:
        doubts.append(f"all {len(labels)} pictures have the label {labels[0]!r}")
    foreign = [label for label in labels if not label.isascii()]
    mended = [(label, text) for label in foreign if (text := _repaired(label))]
    if mended and 2 * len(mended) >= len(foreign):
        label, text = mended[0]
        doubts.append(
            f"{counted(len(mended), 'label')}, such as {label!r}, look like {text!r} in UTF-8 "
            "that was read in another encoding; save the table, or zip the folder, in UTF-8"
        )
    escaped = [(label, text) for label in labels if (text := _unescaped(label)) != label]
    if 2 * len(escaped) > sum("%" in label or "&" in label for label in labels):
        label, text = escaped[0]
        doubts.append(
            f"{counted(len(escaped), 'label')}, such as {label!r}, look like {text!r} as it is "
            "written in addresses or HTML; write the labels as they stand in the pictures"
        )
    missing = _missing(samples)
    if len(missing) > max(1, _MANY_MISSING * len(samples)):
        doubts.append(
            f"{counted(len(missing), 'label')}, such as {missing[0].label!r} of "
            f"{missing[0].source}, stand for labels that are missing; leave the pictures or their "
            "rows out"
        )
    turned = [label for label in labels if _is_right_to_left(label)]
    if turned:
        doubts.append(
            f"{counted(len(turned), 'label')}, such as {turned[0]!r}, of letters that are written "
            "from right to left: a model reads from left to right, and learns them only if the "
            "characters of every label are in the order in which they stand from left to right"
        )
    unknown = [sample.source for sample in samples if "\ufffd" in sample.label]
    if unknown:
        doubts.append(
            f"{counted(len(unknown), 'label')} with U+FFFD, which stands for a lost character: "
            f"{named(unknown)}"
        )
    rounded = [label for label in labels if _ROUNDED.fullmatch(label)]
    present = [label for label in labels if label.lower() not in _MISSING]
    if len(present) > 2 and all(map(_FLOAT.fullmatch, present)):
        rounded = present
    if rounded:
        doubts.append(
            f"{counted(len(rounded), 'label')}, such as {rounded[0]!r}, were turned into numbers "
            "by a program; make the column text and write them anew"
        )
    return doubts


def _missing(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.label.lower() in _MISSING]


def _unescaped(label: str) -> str:
    return html.unescape(unquote(label, errors="ignore"))


def _is_right_to_left(label: str) -> bool:
    return sum(unicodedata.bidirectional(symbol) in ("R", "AL") for symbol in label) > 1


def _repaired(label: str) -> str:
    """Repairs a label in UTF-8 that was read in another encoding; empty if it was not."""
    for encoding in ("cp1252", "latin-1", "cp437", "cp850"):
        try:
            text = label.encode(encoding).decode()
        except UnicodeError:
            continue
        return text if text != label else ""
    return ""


def warnings_about(samples: Sequence[Sample], look: Look) -> list[str]:
    """Warnings about these pictures, each of a sentence or two."""
    if not samples:
        return []
    checks = (_odd_characters, _rare_characters, _numbers, _labels, _lost_zeros, _sizes)
    return [line for check in checks for line in check(samples)] + list(_pixels(samples, look))


def _odd_characters(samples: Sequence[Sample]) -> Iterator[str]:
    counts = Counter(symbol for sample in samples for symbol in sample.label)
    letters: Counter[str] = Counter()
    for symbol, count in counts.items():
        if symbol.isalpha():
            letters[_script(symbol)] += count
    odd = []
    for symbol, count in sorted(counts.items()):
        plain = unicodedata.normalize("NFKC", symbol)
        what = ""
        if not symbol.isprintable() or symbol.isspace():
            what = "cannot be seen" if symbol != " " else "a space"
        elif unicodedata.combining(symbol):
            what = "joins the character before it, and counts as one of its own"
        elif plain != symbol:
            beside = ", which occurs too: --normalization NFKC makes them one" * (plain in counts)
            what = f"a form of {plain!r}{beside}"
        elif symbol.isalpha() and letters[_script(symbol)] < _FOREIGN * letters.total():
            what = "of a script that few letters have"
        if what:
            name = unicodedata.name(symbol, "without a name")
            odd.append(f"U+{ord(symbol):04X} {name}, {count} ×: {what}")
    for line in islice(odd, 2 * _MOST_NAMED):
        yield f"odd character {line}"
    if len(odd) > 2 * _MOST_NAMED:
        yield f"{len(odd) - 2 * _MOST_NAMED} more odd characters"


def _rare_characters(samples: Sequence[Sample]) -> Iterator[str]:
    counts = Counter(symbol for sample in samples for symbol in set(sample.label))
    rare = [visible(symbol) for symbol in sorted(counts) if counts[symbol] < _RARE]
    if rare and len(samples) >= FEWEST_SAMPLES:
        yield (
            f"in fewer than {_RARE} labels, too few to be learned: {counted(len(rare), 'symbol')}, "
            f"{named(rare, 40)}"
        )


def _numbers(samples: Sequence[Sample]) -> Iterator[str]:
    if len(samples) < FEWEST_SAMPLES:
        yield f"too few pictures: training needs at least {FEWEST_SAMPLES}"
        return
    splits = split_by_content(samples)
    tested = len(splits["test"])
    if tested < _FEW_TO_TEST:
        yield (
            f"too few pictures for a test: {tested} are held back for it, so that its figures say "
            "little; label a hundred or more"
        )
    taught = {symbol for sample in splits["train"] for symbol in sample.label}
    unlearnable = [visible(one) for one in alphabet_of(samples) if one not in taught]
    if unlearnable:
        yield f"symbols that are in no training picture, by chance: {named(unlearnable, 40)}"


def _labels(samples: Sequence[Sample]) -> Iterator[str]:
    steps = time_steps_of(working_size(samples)[0])
    near = [sample for sample in samples if shortest_path(sample.label) > _NEAR * steps]
    if near:
        yield (
            f"near the limit of {steps} time steps, and hard to learn: "
            f"{counted(len(near), 'label')}, "
            + named([f"{sample.source} ({sample.label!r})" for sample in near])
        )
    missing = _missing(samples)
    if missing:
        yield (
            f"what programs write for a missing label: {counted(len(missing), 'label')}, "
            + named([f"{sample.source} ({sample.label!r})" for sample in missing])
        )
    limit = longest_usual(samples)
    long = [sample for sample in samples if len(sample.label) > limit]
    if long:
        yield f"much longer than most: {counted(len(long), 'label')}, " + named(
            [f"{sample.source} ({sample.label!r})" for sample in long]
        )


def _lost_zeros(samples: Sequence[Sample]) -> Iterator[str]:
    labels = [sample.label for sample in samples]
    usual = mode(map(len, labels))
    shorter = [label for label in labels if len(label) < usual]
    if (
        0 < len(shorter) < _SHORTER * len(labels)
        and all(label.isdecimal() for label in labels)
        and not any(label.startswith("0") for label in labels)
    ):
        yield (
            f"of fewer digits than most: {counted(len(shorter), 'label')}, such as {shorter[0]!r}, "
            "and none begins with 0, as where a spreadsheet has dropped zeros"
        )


def _sizes(samples: Sequence[Sample]) -> Iterator[str]:
    width, height = picture_size_of(samples)
    odd = [
        sample
        for sample in samples
        if _factor(sample.width * sample.height, width * height) > _ODD_SIZE**2
        or _factor(sample.width * height, sample.height * width) > _ODD_SIZE
    ]
    if odd:
        yield (
            f"of quite another size or shape than most, {width}×{height}, and stretched to the "
            f"same: {counted(len(odd), 'picture')}, "
            + named([f"{one.source} ({one.width}×{one.height})" for one in odd])
        )
    length = median(len(sample.label) for sample in samples)
    if height > width and length > 1:
        yield (
            f"most pictures are taller than wide ({width}×{height}): a model reads from left to "
            "right, and cannot tell letters that stand above each other; turn the pictures"
        )
    elif width < _NARROW * length:
        yield f"a character is about {width / length:.0f} pixels wide, too few to be told apart"


def _factor(one: int, other: int) -> float:
    return max(one / other, other / one)


def _pixels(samples: Sequence[Sample], look: Look) -> Iterator[str]:
    if look.flat:
        names = named([sample.source for sample in look.flat])
        why = ", with a text that only colour shows" if look.colour else ""
        yield f"blank in gray{why}: {counted(len(look.flat), 'picture')}, {names}"
    if look.colour:
        yield "gray loses what the eye sees: a model needs three channels for these pictures"
    if look.stacked > 0.5:
        yield (
            f"{look.stacked:.0%} of the pictures seem to have letters above each other, in lines; "
            "a model reads one line from left to right; cut the pictures into lines"
        )
