"""Short texts over a small alphabet, and random patterns for them."""

import itertools
import re

from hypothesis import strategies as st

from service.ocr.decoding.constraints import Automaton

ALPHABET = "ab1"
TEXTS = ["".join(t) for n in range(5) for t in itertools.product(ALPHABET, repeat=n)]


def language(automaton: Automaton) -> set[str]:
    """The short texts that an automaton accepts."""
    return {text for text in TEXTS if automaton.accepts(text, ALPHABET)}


def matched(pattern: str) -> set[str]:
    """The short texts that `re` matches as a whole."""
    return {text for text in TEXTS if re.fullmatch(pattern, text)}


# "c" is no symbol of the alphabet.
ATOMS = ["a", "b", "1", "c", ".", r"\d", r"\w", r"\.", "[ab]", "[^a]", "[a-b1]", "[^0-9]", r"[\d-]"]
QUANTIFIERS = ["*", "+", "?", "{0}", "{2}", "{0,2}", "{1,3}", "{2,}"]


def composed(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(parts, max_size=3).map("".join),
        st.lists(parts, min_size=1, max_size=3).map(lambda branches: f"({'|'.join(branches)})"),
        st.builds("(?:{}){}".format, parts, st.sampled_from(QUANTIFIERS)),
        st.builds("{}{}".format, st.sampled_from(ATOMS), st.sampled_from(QUANTIFIERS)),
    )


patterns = st.recursive(st.sampled_from(ATOMS), composed, max_leaves=10)
