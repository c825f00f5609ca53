"""Files in LoCoMo's format: conversations in sessions of turns, questions, and the turns that answer them.

Maharana et al., "Evaluating Very Long-Term Conversational Memory of LLM Agents" (2024). A file holds a list
of samples, as in `locomo10.json`, or one; a folder holds such files. Its data is not ours to ship.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

CATEGORIES: Final = (1, 2, 3, 4)
"""The fifth asks what cannot be answered."""
_SESSION = re.compile(r"session_([0-9]+)")


class LocomoError(ValueError):
    """A file is not in the format; the message says where."""


class _Turn(BaseModel):
    speaker: str
    dia_id: str
    text: str


class _Question(BaseModel):
    question: str
    category: int
    evidence: list[str] = Field(default_factory=list[str])


_OBJECT: Final = TypeAdapter(dict[str, Any])
_SAMPLES: Final = TypeAdapter(list[Any])
_TURNS: Final = TypeAdapter(list[_Turn])
_QUESTIONS: Final = TypeAdapter(list[_Question])


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation and what is asked of it.

    Attributes:
        texts: What was said, by whom, in order.
        queries: The questions that can be answered from it.
        answers: For each question the positions in `texts` of its evidence, at least one.
        left_out: How many questions of the categories have no evidence in it.
    """

    texts: list[str]
    queries: list[str]
    answers: list[set[int]]
    left_out: int


def read_locomo(path: Path) -> list[Conversation]:
    """Returns the conversations of a file, or of all files of a folder by name.

    Raises:
        LocomoError: it cannot be read, or is not in the format.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    found = [_conversation(sample, f"{file.name}[{at}]") for file in files for at, sample in _samples(file)]
    if not any(each.queries for each in found):
        raise LocomoError(f"{path} holds no question with evidence; give locomo10.json, or a folder of such")
    return found


def _samples(file: Path) -> list[tuple[int, Any]]:
    try:
        read = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise LocomoError(f"{file} is not a file of JSON: {error}") from None
    return list(enumerate(_SAMPLES.validate_python(read) if isinstance(read, list) else [read]))


def _conversation(sample: Any, where: str) -> Conversation:
    try:
        whole = _OBJECT.validate_python(sample)
        asked_of = whole["qa"]
    except (ValidationError, KeyError):
        raise LocomoError(
            f"{where}: a sample is an object with `qa`, and sessions or `conversation`"
        ) from None
    try:
        spoken = _OBJECT.validate_python(whole.get("conversation", whole))
    except ValidationError:
        raise LocomoError(f"{where}: `conversation` is not an object") from None
    texts: list[str] = []
    places: dict[str, int] = {}
    sessions = [(int(named[1]), name) for name in spoken if (named := _SESSION.fullmatch(name))]
    try:
        for _, name in sorted(sessions):
            for turn in _TURNS.validate_python(spoken[name]):
                places[turn.dia_id] = len(texts)
                texts.append(f"{turn.speaker}: {turn.text}")
        asked = [one for one in _QUESTIONS.validate_python(asked_of) if one.category in CATEGORIES]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(map(str, first["loc"]))
        raise LocomoError(f"{where}: {at}: {first['msg']}") from None
    pairs = [(one.question, {places[name] for name in one.evidence if name in places}) for one in asked]
    known = [(question, answer) for question, answer in pairs if answer]
    return Conversation(
        texts, [each[0] for each in known], [each[1] for each in known], len(pairs) - len(known)
    )
