from training.evaluation.evaluate import summarize
from training.reports.model_card import _clean


def test_no_row_of_no_pictures() -> None:
    """Small sets have no label with adjacent repeats in their test split, and still a card."""
    row = {
        "pictures": 2,
        "exact": 1,
        "exact_match": 0.5,
        "exact_match_interval": [0.1, 0.9],
        "cer": 0.2,
    }
    none = summarize([])["adjacent_repeats"]
    text = _clean({**row, "adjacent_repeats": none})
    assert "| all | 1/2 | 0.5000 | 0.1000–0.9000 | 0.2000 |" in text
    assert "adjacent" not in text
    assert "| with adjacent repeats | 1/2 |" in _clean({**row, "adjacent_repeats": row})
