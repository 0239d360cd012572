import numpy as np
from PIL import Image

from service.ocr.decoding.ctc import CtcCodec
from training.synthetic.alignment import frames_of
from training.synthetic.generate import Drawing, generate

CODEC = CtcCodec("ab", blank_index=2)


def test_a_character_is_emitted_in_the_middle_of_its_ink() -> None:
    """A wide character has two time steps, a narrow one has one; other time steps are blank."""
    boxes = ((4, 0, 20, 9), (24, 0, 28, 9))
    frames = frames_of(Drawing(Image.new("L", (36, 9)), "ba", boxes), 36, CODEC)
    assert frames.tolist() == [2, 2, 1, 1, 2, 2, 0, 2, 2]


def test_the_frames_decode_to_the_text() -> None:
    """CTC also decodes equal neighbours and characters at the edge."""
    for drawing in generate(50, "ab", (1, 4), width=160, height=40, seed=3):
        certain = np.eye(CODEC.classes, dtype=np.float32)[frames_of(drawing, 160, CODEC)]
        assert CODEC.decode(certain) == drawing.text
