"""A code of the e-card as a picture: a QR code in SVG.

True here: the code is drawn in black on white with the quiet zone around it that readers need, whatever the page behind it;
drawing takes about a millisecond, so it may happen on the event loop. Never here: whether somebody may have it drawn.
"""

from io import BytesIO
from typing import Final

import segno

MEDIA_TYPE: Final = "image/svg+xml"
# Any of the eight masks reads as well on random bits. Looking for the best of them takes eight times as long as all the rest.
_MASK: Final = 0
_QUIET: Final = 4


def drawn(code: str) -> bytes:
    """The QR code (ISO/IEC 18004, version 2, error correction M) that holds exactly this code.

    Raises ValueError for what is none of ours: 38 letters and digits have room in it.
    """
    made = segno.make_qr(code, version=2, mode="alphanumeric", error="m", boost_error=False, mask=_MASK)
    out = BytesIO()
    made.save(out, kind="svg", border=_QUIET, dark="#000", light="#fff", xmldecl=False, omitsize=True, svgclass=None)
    return out.getvalue()
