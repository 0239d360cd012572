"""Random texts like those of captchas, plates, meters and price tags."""

import string

from training.synthetic.sampling import Random, one_of, weighted

_KINDS = {
    "digits": 24, "upper": 9, "lower": 9, "upper and digits": 16, "lower and digits": 10,
    "letters": 6, "letters and digits": 14, "hex": 3, "few": 9, "number": 5, "marks": 9, "sum": 3,
}  # fmt: skip
"""Relative frequency of each kind."""

_SETS = {
    "digits": string.digits,
    "upper": string.ascii_uppercase,
    "lower": string.ascii_lowercase,
    "upper and digits": string.ascii_uppercase + string.digits,
    "lower and digits": string.ascii_lowercase + string.digits,
    "letters": string.ascii_letters,
    "letters and digits": string.ascii_letters + string.digits,
    "hex": "0123456789abcdef",
}
_LENGTHS = (1, 2, 3, 3, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 8, 8, 9, 10, 11, 12)


def random_text(symbols: frozenset[str], alphabet: str, rng: Random) -> str:
    """A text of 1 to 12 characters.

    Args:
        symbols: symbols that the text may have.
        alphabet: all symbols in a fixed order, so that the text depends only on the generator.
    """
    kind = weighted(_KINDS, rng)
    length = one_of(_LENGTHS, rng)
    pool = [symbol for symbol in _SETS.get(kind, alphabet) if symbol in symbols]
    if kind in ("number", "sum") and set("0123456789.,:-+=") <= symbols:
        return _number(rng) if kind == "number" else _sum(symbols, rng)
    if kind == "few" and pool:
        few = 2 + int(rng.random() * 12)
        pool = [one_of(pool, rng) for _ in range(few)]
    if kind == "marks":
        marks = [symbol for symbol in pool if not symbol.isalnum()]
        base = [symbol for symbol in string.ascii_uppercase + string.digits if symbol in symbols]
        pool = base + 2 * marks if rng.random() < 0.6 else base * (rng.random() < 0.5) + marks
    if not pool:
        pool = [symbol for symbol in alphabet if symbol in symbols]
    text = [pool[int(place * len(pool))] for place in rng.random(length)]
    for i in range(1, length):  # CTC errs first on repeated characters
        if rng.random() < 0.06:
            text[i] = text[i - 1]
    return "".join(text)


def _digits(count: int, rng: Random) -> str:
    return "".join(str(int(10 * rng.random())) for _ in range(count))


def _number(rng: Random) -> str:
    whole = _digits(1 + int(4 * rng.random()), rng)
    sign = "-" if rng.random() < 0.25 else ""
    match int(4 * rng.random()):
        case 0:
            return sign + whole
        case 1:
            return f"{sign}{whole}.{_digits(1 + int(3 * rng.random()), rng)}"
        case 2:
            return f"{_digits(2, rng)}:{_digits(2, rng)}" if rng.random() < 0.5 else whole
        case _:
            return (
                f"{sign}{whole},{_digits(2, rng)}" if rng.random() < 0.3 else f"{whole}.{whole[0]}"
            )


def _sum(symbols: frozenset[str], rng: Random) -> str:
    signs = [sign for sign in "+-*/" if sign in symbols]
    sign = one_of(signs, rng)
    left, right = (_digits(1 + int(2 * rng.random()), rng) for _ in range(2))
    text = f"{left}{sign}{right}"
    if rng.random() < 0.7:
        text += "="
        if "?" in symbols and rng.random() < 0.5:
            text += "?"
    return text
