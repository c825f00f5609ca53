"""The reader of LoCoMo's format, on a conversation of our own."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest


def load(path: Path) -> Any:
    """Loads a script as a module; it is in no package."""
    spec = importlib.util.spec_from_file_location("measured_locomo", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


locomo = load(Path(__file__).parents[2] / "benchmarks" / "locomo.py")

SAMPLE: dict[str, Any] = {
    "conversation": {
        "speaker_a": "Ann",
        "speaker_b": "Bob",
        "session_2_date_time": "9 May 2023",
        "session_10": [{"speaker": "Ann", "dia_id": "D10:1", "text": "I sold the car.", "img_url": ["x"]}],
        "session_2": [
            {"speaker": "Bob", "dia_id": "D2:1", "text": "I bought a Prius."},
            {"speaker": "Ann", "dia_id": "D2:2", "text": "Mine is old."},
        ],
    },
    "qa": [
        {"question": "What did Bob buy?", "answer": "a Prius", "evidence": ["D2:1"], "category": 4},
        {
            "question": "Whose car went?",
            "answer": "Ann's",
            "evidence": ["D10:1", "D2:2", "D9:9"],
            "category": 1,
        },
        {
            "question": "What did Bob sell?",
            "adversarial_answer": "a car",
            "evidence": ["D2:1"],
            "category": 5,
        },
        {"question": "Where is Bob?", "answer": "?", "evidence": ["D77:1"], "category": 2},
        {"question": "Who is Bob?", "answer": "?", "category": 3},
    ],
}


def written(folder: Path, value: Any, name: str = "some.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_sessions_come_by_number_and_questions_with_the_turns_that_answer_them(tmp_path: Path) -> None:
    (read,) = locomo.read_locomo(written(tmp_path, [SAMPLE]))
    assert read.texts == ["Bob: I bought a Prius.", "Ann: Mine is old.", "Ann: I sold the car."]
    assert read.queries == ["What did Bob buy?", "Whose car went?"]
    assert read.answers == [{0}, {1, 2}]
    assert read.left_out == 2  # the fifth category asks what has no answer, and is not counted


def test_a_folder_of_conversations_without_an_envelope_is_read_too(tmp_path: Path) -> None:
    bare = {**SAMPLE["conversation"], "qa": SAMPLE["qa"]}
    written(tmp_path, bare, "b.json")
    written(tmp_path, [SAMPLE], "a.json")
    one, other = locomo.read_locomo(tmp_path)
    assert one == other


WRONG: list[tuple[Any, str]] = [
    ([], "holds no question with evidence"),
    ([{**SAMPLE, "qa": []}], "holds no question with evidence"),
    (["a"], "some.json[0]: a sample is an object with `qa`"),
    ([SAMPLE, {"qa": [], "conversation": 1}], "some.json[1]: `conversation` is not an object"),
    ({**SAMPLE, "qa": [{"question": "Who?"}]}, "some.json[0]: 0.category: Field required"),
    (
        {"qa": [], "session_1": [{"speaker": "Ann", "text": "?"}]},
        "some.json[0]: 0.dia_id: Field required",
    ),
    ({"qa": [], "session_1": "spoken"}, "some.json[0]: : Input should be a valid list"),
]


@pytest.mark.parametrize(("value", "what"), WRONG)
def test_what_is_not_in_the_format_is_named(tmp_path: Path, value: Any, what: str) -> None:
    with pytest.raises(locomo.LocomoError) as caught:
        locomo.read_locomo(written(tmp_path, value))
    assert what in str(caught.value)


def test_a_file_that_is_no_json_or_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(locomo.LocomoError, match=r"none\.json is not a file of JSON"):
        locomo.read_locomo(path)
    path.write_bytes(b"{")
    with pytest.raises(locomo.LocomoError, match=r"none\.json is not a file of JSON"):
        locomo.read_locomo(path)
