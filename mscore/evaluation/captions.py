"""Captions on pictures, drawn with a small built-in font: no font file, no imaging library needed."""

import numpy as np

from mscore.evaluation.rollouts import Picture

# The classic 5x7 font: five columns per character, a byte each, the lowest bit on top.
_CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ.-:/"
_COLUMNS = bytes.fromhex(
    "3e5149453e00427f400042615149462141454b311814127f1027454545393c4a49493001710905033649494936064949291e"
    "7e1111117e7f494949363e414141227f4141221c7f494949417f090909013e4149497a7f0808087f00417f41002040413f01"
    "7f081422417f404040407f020c027f7f0408107f3e4141413e7f090909063e4151215e7f09192946464949493101017f0101"
    "3f4040403f1f2040201f3f4038403f6314081463070870080761514945430060600000080808080800363600002010080402"
)
_FONT = {character: _COLUMNS[5 * place : 5 * place + 5] for place, character in enumerate(_CHARACTERS)}
_ADVANCE = 6
_LINE = 11
_WHITE = (255, 255, 255)


def strip(text: str, width: int, *, scale: int, colour: tuple[int, int, int] = _WHITE) -> Picture:
    """A black strip with one line of text, cut off where it does not fit.

    Args:
        text: letters (drawn as capitals), digits and ``. - : /``; other characters are left blank.
        width: of the strip, in pixels.
        scale: size of the font's dots, in pixels.
        colour: of the text.

    Returns:
        A picture (11 * scale, width, 3).
    """
    dots = np.zeros((_LINE, max(width // scale, _ADVANCE * len(text) + 2)), dtype=bool)
    for place, character in enumerate(text.upper()):
        for x, column in enumerate(_FONT.get(character, b"")):
            for y in range(7):
                dots[y + 2, place * _ADVANCE + 2 + x] = column >> y & 1
    big = dots.repeat(scale, 0).repeat(scale, 1)
    picture = np.zeros((_LINE * scale, width, 3), dtype=np.uint8)
    visible = big[:, :width]
    picture[:, : visible.shape[1]][visible] = colour
    return picture
