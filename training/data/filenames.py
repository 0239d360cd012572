"""Finds the labels in the file names of pictures, and whether the names have labels at all."""

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from service.ocr.formats import SUFFIXES as SERVICE_SUFFIXES
from training.exceptions import DataError

SUFFIXES = (*SERVICE_SUFFIXES, ".tif", ".tiff")
"""Suffixes of the pictures that a data set can have, in lower case."""

_HEX = "[0-9a-fA-F]"
_UUID = rf"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}"
_RANDOM_NAME = re.compile(rf"{_UUID}|{_HEX}{{24,}}")
_NUMBERED_NAME = re.compile(r"(\D*)(\d+)")
_COPY = re.compile(r"(.+?)(?:( ?\(\d+\)| copy(?: \d+)?| - [CK]op\w+(?: \(\d+\))?)|[_-](\d+))")
_ROBOFLOW = rf"\w+\.rf\.{_HEX}+"
_HASH = re.compile(rf"{_UUID}|{_HEX}{{6,}}|[0-9A-Za-z]{{10,}}|{_ROBOFLOW}")
_ENDING = re.compile(rf"(.+?)(?:[_-]{_UUID}|_{_ROBOFLOW}| ?\(\d+\)|[_. -][^_. -]*)")
_BEGINNING = re.compile(rf"(?:{_UUID}|[^_-]*)[_-](.+)")
_SEPARATORS = "_-. "

_FEWEST = 3
"""Least number of names in which a rule is looked for."""

_FEWEST_SHARED, _FEWEST_ALIKE = 3, 5
"""This many characters that this many names share are unlikely to be part of the labels."""

_NEARLY_ALL = 0.9
_MANY = 0.2
_TIMESTAMP_DIGITS = 9


@dataclass(frozen=True, slots=True)
class NamedLabels:
    """A label for each name.

    `note` says how the names were read. `doubt`, unless empty, says why the labels may be wrong.
    """

    labels: Sequence[str]
    note: str
    doubt: str = ""


def _stem(name: str) -> str:
    return PurePosixPath(name).stem.strip()


def _prefix(name: str) -> str:
    found = _ENDING.fullmatch(_stem(name))
    return found[1].strip() if found else _stem(name)


def _suffix(name: str) -> str:
    found = _BEGINNING.fullmatch(_stem(name))
    return found[1].strip() if found else _stem(name)


def _folder(name: str) -> str:
    return PurePosixPath(name).parent.name.strip()


WAYS: dict[str, tuple[Callable[[str], str], str]] = {
    "stem": (_stem, "the file name without its suffix"),
    "prefix": (_prefix, "the file name up to its last _, -, dot, space or (n)"),
    "suffix": (_suffix, "the file name after its first _ or -"),
    "folder": (_folder, "the name of the folder that the picture is in"),
}
"""The values of `--label-from`: a function that reads a label from a path, and a description."""


def labels_of(names: Sequence[str], way: str | None = None) -> NamedLabels:
    """Reads a label out of each name.

    Args:
        names: paths of pictures with `/` between folders.
        way: one of `WAYS`, or a regular expression that matches the file name without its suffix
            and whose first group is the label. None chooses a way by the names.

    Raises:
        DataError: `way` is neither, or a name does not match the regular expression.
    """
    if way is None:
        return _decided(names)
    if way in WAYS:
        read, meaning = WAYS[way]
        return NamedLabels([read(name) for name in names], f"the label is {meaning}")
    return _matched(names, way)


def _matched(names: Sequence[str], expression: str) -> NamedLabels:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise DataError(f"--label-from {expression} is no regular expression: {error}.") from error
    if not pattern.groups:
        raise DataError(
            f"--label-from is {expression!r}; it must be {', '.join(WAYS)}, or a regular "
            r"expression with the label in parentheses, such as '\d+_(.+)'."
        )
    labels = []
    for name in names:
        found = pattern.fullmatch(_stem(name))
        if not found:
            raise DataError(f"--label-from {expression} does not match {_stem(name)!r} of {name}.")
        labels.append((found[1] or "").strip())
    return NamedLabels(labels, f"the label is the group of {expression} in the file name")


def _decided(names: Sequence[str]) -> NamedLabels:
    stems = [_stem(name) for name in names]
    plain = NamedLabels(stems, f"the label is {WAYS['stem'][1]}")
    if len(stems) < _FEWEST:
        return plain
    doubt = _why_no_labels(names, stems)
    if doubt:
        return NamedLabels(stems, plain.note, doubt)
    found = _without_random_part(names, stems) or _without_copies(stems)
    return found or NamedLabels(stems, plain.note, _why_not_whole(stems))


def _why_no_labels(names: Sequence[str], stems: Sequence[str]) -> str:
    """Why the names have no labels; empty if they may have labels."""
    remedy = "give a table of labels, or --label-from stem if the names are the labels anyway"
    folders = {_folder(name) for name in names}
    if len(folders) > 1:
        remedy = f"pass --label-from folder if the folders are named by the labels, {remedy}"
    random = sum(_RANDOM_NAME.fullmatch(stem) is not None for stem in stems)
    if random / len(stems) >= _NEARLY_ALL:
        return f"the file names, such as {stems[0]!r}, are UUIDs or hashes and no labels; {remedy}"
    leads: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, stem in zip(names, stems, strict=True):
        if found := _NUMBERED_NAME.fullmatch(stem):
            leads[found[1]].append((_folder(name), int(found[2])))
    places = max(leads.values(), key=len, default=[])
    numbers = {number for _, number in places}
    # Each folder may start its own numbering.
    once = len(set(places)) == len(places) >= _NEARLY_ALL * len(stems)
    if once and _is_dense(numbers):
        return f"the file names, such as {stems[0]!r}, number the pictures; {remedy}"
    if len(set(stems)) == 1 and len(folders) > 1:
        return f"all files are called {stems[0]!r}; {remedy}"
    return ""


def _why_not_whole(stems: Sequence[str]) -> str:
    """Why names have more than the labels; empty if the names have no common beginning or end."""
    begin, end = _beginning(stems), _beginning([stem[::-1] for stem in stems])[::-1]
    if len(set(stems)) < _FEWEST_ALIKE or max(len(begin), len(end)) < _FEWEST_SHARED:
        return ""
    where, shared = ("begin", begin) if len(begin) >= len(end) else ("end", end)
    way = f"{re.escape(begin)}(.+)" if where == "begin" else f"(.+){re.escape(end)}"
    return (
        f"all file names {where} with {shared!r}, such as {stems[0]!r}; pass --label-from '{way}' "
        "if no label has that, --label-from stem if all have"
    )


def _beginning(texts: Sequence[str]) -> str:
    """The common beginning of all texts: the first and the last in sorted order differ earliest."""
    first, last = min(texts), max(texts)
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(symbol for symbol, _ in same)


def _without_random_part(names: Sequence[str], stems: Sequence[str]) -> NamedLabels | None:
    """The labels of names that are all `<label>_<n>` or `<label>_<hash>`, in either order."""
    if all(re.fullmatch(rf".+[_-]{_UUID}", stem) for stem in stems):
        return _cut(names, "prefix", "a UUID")
    for separator in _SEPARATORS:
        heads, tails = zip(*(_parted(stem.rpartition(separator)) for stem in stems), strict=True)
        first, rest = zip(*(_parted(stem.partition(separator)) for stem in stems), strict=True)
        if not all(heads) or not all(rest):
            continue
        ending, beginning = _kind(tails, heads), _kind(first, rest)
        if separator in ". ":
            # A label may have either separator: a decimal point, or a space between words.
            if ending:
                return _cut(names, "prefix", ending, doubt=True)
            continue
        if ending and not beginning:
            return _cut(names, "prefix", ending, doubt=separator in heads[0])
        if beginning and not ending:
            return _cut(names, "suffix", beginning, doubt=separator in rest[0])
        if all(map(str.isdecimal, tails)):
            return _cut(names, "prefix", "a number", doubt=True)
        if all(map(str.isdecimal, first)):
            return _cut(names, "suffix", "a number", doubt=True)
        if len(set(tails)) == 1:
            return _cut(names, "prefix", f"{separator}{tails[0]}", doubt=True)
        if len(set(first)) == 1:
            return _cut(names, "suffix", f"{first[0]}{separator}", doubt=True)
    return None


def _parted(parts: tuple[str, str, str]) -> tuple[str, str]:
    return (parts[0], parts[2]) if parts[1] else ("", "")


def _cut(names: Sequence[str], way: str, what: str, doubt: bool = False) -> NamedLabels:
    read, meaning = WAYS[way]
    labels = [read(name) for name in names]
    where = "end" if way == "prefix" else "begin"
    note = f"all file names {where} with {what}; the label is {meaning}"
    name = names[0]
    choices = " or ".join(
        f"{read(name)!r} (--label-from {choice})"
        for choice, (read, _) in WAYS.items()
        if choice != "folder"
    )
    why = f"the label of {name} may be {choices}; say which" if doubt else ""
    return NamedLabels(labels, note, why)


def _without_copies(stems: Sequence[str]) -> NamedLabels | None:
    """The labels of names some of which end with a number, like the copies of file managers."""
    found = [_COPY.fullmatch(stem) for stem in stems]
    counts = Counter(one[1] if one else stem for stem, one in zip(stems, found, strict=True))
    labels, numbered = [], []
    for stem, one in zip(stems, found, strict=True):
        # `ab_2` is a copy if there is `ab`; without it, it may be a label with an underscore.
        copy = one and (one[2] or counts[one[1]] > 1)
        labels.append(one[1] if one and copy else stem)
        if one and not copy:
            numbered.append(stem)
    cut = sum(one is not None for one in found) - len(numbered)
    if not cut and len(numbered) < _MANY * len(stems):
        return None
    note = (
        f"{cut} of {len(stems)} file names end like the names of copies; the label is the file "
        "name without that ending"
    )
    doubt = (
        f"{len(numbered)} of {len(stems)} file names end with a number, such as {numbered[0]!r}, "
        "and were read with it; pass --label-from prefix if no label has it, --label-from stem if "
        "all have"
        if numbered
        else ""
    )
    return NamedLabels(labels, note, doubt)


def _kind(parts: Sequence[str], others: Sequence[str]) -> str:
    """The kind of the parts of names beside the label; empty if it is unclear."""
    if all(part.isdecimal() for part in parts):
        numbers = [int(part) for part in parts]
        if len(set(numbers)) == len(numbers) and _is_dense(numbers):
            return "a running number"
        if len(parts[0]) >= _TIMESTAMP_DIGITS and len(set(parts)) > _NEARLY_ALL * len(parts):
            return "a timestamp"
        by_other: dict[str, list[int]] = defaultdict(list)
        for number, other in zip(numbers, others, strict=True):
            by_other[other].append(number)
        if all(
            len(set(group)) == len(group) and max(group) <= len(group) + 1
            for group in by_other.values()
        ):
            return "a running number"
        return ""
    random = all(_HASH.fullmatch(part) for part in parts) and len({*map(len, parts)}) == 1
    varied = len(set(parts)) > _NEARLY_ALL * len(parts)
    digits = any(symbol.isdecimal() for part in parts for symbol in part)
    return "a hash" if random and varied and digits else ""


def _is_dense(numbers: Collection[int]) -> bool:
    """Whether few numbers between the least and the greatest are missing."""
    return max(numbers) - min(numbers) < 2 * len(numbers)
