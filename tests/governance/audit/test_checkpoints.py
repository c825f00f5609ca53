"""Checkpoints: the text of https://c2sp.org/tlog-checkpoint, and nothing that only resembles it."""

import base64

import pytest

from neural_trader_governance.audit.checkpoints import open_checkpoint
from neural_trader_governance.errors import IntegrityError
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.signing.notes import sign_note

ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize("text", [f"o/l\n7\n{ROOT}\n", f"o/l\n7\n{ROOT}\nextension\nanother\n"])
def test_extension_lines_are_read_over(text: str) -> None:
    key = SigningKey.generate("o/l")
    assert open_checkpoint(sign_note(text, [key]).encode(), key.verifying_key).size == 7


@pytest.mark.parametrize(
    "text",
    [
        *(
            f"o/l\n{size}\n{ROOT}\n"
            for size in ("", "07", "+7", "-7", "7 ", "1_0", "0x7", "\u0667", "9" * 19)
        ),
        *(f"o/l\n7\n{root}\n" for root in ("", ROOT[:-1], ROOT[:-2] + "B=", ROOT + "=", "AAAA")),
        *(f"\n7\n{ROOT}\n", f"o/l\n7\n{ROOT}\nextension\n\nanother\n", "o/l\n7\n", "o/l\n"),
    ],
)
def test_what_only_resembles_one_is_refused_although_the_log_signed_it(text: str) -> None:
    key = SigningKey.generate("o/l")
    with pytest.raises(IntegrityError, match="malformed_checkpoint"):
        open_checkpoint(sign_note(text, [key]).encode(), key.verifying_key)
