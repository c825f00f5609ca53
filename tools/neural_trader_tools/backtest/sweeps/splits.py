"""Splits: which bars choose a combination, and which bars judge the choice.

Purging and embargo as in Lopez de Prado (2018), Advances in Financial Machine Learning, chapters 7 and 12:
a decision's result lasts `purge` bars, so training bars within so many bars before or behind a test range
share information with it and are left out; behind it `embargo` bars more, because features look back.
Where several test ranges touch, they are one.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from neural_trader_governance.errors import InputError
from neural_trader_tools.engine.faults import did_you_mean

Scheme = Literal["rolling", "anchored", "purged", "combinatorial"]
Range = tuple[int, int]
SCHEMES: Final = ("rolling", "anchored", "purged", "combinatorial")
SPLITS_MAX: Final = 1_000
RANGE_BARS_MIN: Final = 2


class Split(BaseModel):
    """One choice and its judgement: bar ranges [first, last), ascending, not overlapping."""

    model_config = ConfigDict(frozen=True)

    train: tuple[Range, ...]
    test: tuple[Range, ...]


class Validation(BaseModel):
    """How a sweep is validated out of sample.

    Attributes:
        scheme: rolling: a fixed training length before each test range; anchored: all before it; purged:
            k-fold; combinatorial: every choice of `test_folds` of the folds.
        folds: Test ranges; for purged and combinatorial, parts of the period.
        train_bars: Training length of rolling; None: as long as all before the first test range.
        test_folds: Parts that are tested at once, combinatorial.
        purge_bars: See the module.
        embargo_bars: See the module.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: Scheme
    folds: int = 5
    train_bars: int | None = None
    test_folds: int = 2
    purge_bars: int = 0
    embargo_bars: int = 0

    @property
    def walks_forward(self) -> bool:
        """Whether no training bar lies behind its test range, so that the tests make one history."""
        return self.scheme in ("rolling", "anchored")

    def splits(self, bars: int) -> list[Split]:
        """Returns the splits of so many bars.

        Raises:
            InputError: `too_few_bars`: a range would be empty.
        """
        if self.walks_forward:
            found = walk_forward(
                bars,
                self.folds,
                train_bars=self.train_bars,
                anchored=self.scheme == "anchored",
                purge_bars=self.purge_bars,
            )
        else:
            tested = 1 if self.scheme == "purged" else self.test_folds
            found = combinatorial(bars, self.folds, tested, self.purge_bars, self.embargo_bars)
        for number, split in enumerate(found):
            for ranges in (split.train, split.test):
                if sum(last - first for first, last in ranges) < RANGE_BARS_MIN:
                    raise InputError(
                        "too_few_bars",
                        f"{bars} bars leave fold {number} of {self.scheme} without bars",
                        "use fewer folds, a shorter purge or a longer period",
                    )
        return found


def read_validation(text: str) -> Validation:
    """Reads `rolling`, `anchored,folds=8,purge=5` or `combinatorial,folds=6,test=2,purge=5,embargo=10`.

    Raises:
        InputError: `invalid_walk_forward`.
    """
    names = {
        "folds": "folds", "train": "train_bars", "test": "test_folds", "purge": "purge_bars",
        "embargo": "embargo_bars",
    }  # fmt: skip
    scheme, *options = (part.strip() for part in text.split(","))
    if scheme not in SCHEMES:
        raise InputError(
            "invalid_walk_forward", f"{scheme!r:.40} is no scheme", did_you_mean(scheme, SCHEMES)
        )
    given: dict[str, int] = {}
    for option in options:
        name, _, value = (part.strip() for part in option.partition("="))
        if name not in names:
            raise InputError("invalid_walk_forward", f"{name!r:.40} is no option", did_you_mean(name, names))
        if not value.isascii() or not value.isdigit() or int(value) > 10**9:
            raise InputError(
                "invalid_walk_forward", f"{name}={value[:20]} is no number of bars", f"write {name}=5"
            )
        given[names[name]] = int(value)
    fits = {
        "rolling": {"folds", "train_bars", "purge_bars"},
        "anchored": {"folds", "purge_bars"},
        "purged": {"folds", "purge_bars", "embargo_bars"},
        "combinatorial": {"folds", "test_folds", "purge_bars", "embargo_bars"},
    }[scheme]
    for name in given.keys() - fits:
        word = next(short for short, long in names.items() if long == name)
        offered = ", ".join(short for short, long in names.items() if long in fits)
        raise InputError("invalid_walk_forward", f"{scheme} takes no {word}", f"use {offered}")
    validation = Validation(scheme=scheme, **given)  # pyright: ignore[reportArgumentType]  # checked above
    least = 1 if validation.walks_forward else 2
    if not least <= validation.folds <= 100:
        raise InputError("invalid_walk_forward", f"{validation.folds} folds", f"use {least} to 100")
    if scheme == "rolling" and validation.train_bars is not None and validation.train_bars < RANGE_BARS_MIN:
        raise InputError("invalid_walk_forward", f"train={validation.train_bars}", "train on 2 bars or more")
    if scheme == "combinatorial":
        if not 1 <= validation.test_folds < validation.folds:
            raise InputError(
                "invalid_walk_forward",
                f"test={validation.test_folds} of {validation.folds} folds",
                "test at least one fold and train on one",
            )
        count = math.comb(validation.folds, validation.test_folds)
        if count > SPLITS_MAX:
            raise InputError(
                "invalid_walk_forward", f"{count:,} splits, at most {SPLITS_MAX:,}", "use fewer folds"
            )
    return validation


def walk_forward(
    bars: int, folds: int, *, train_bars: int | None = None, anchored: bool = False, purge_bars: int = 0
) -> list[Split]:
    """Returns consecutive test ranges of equal length up to the last bar, each trained on what came before.

    Without `train_bars` the period is cut into folds + 1 equal parts; the first is only trained on.

    Args:
        bars: How many there are.
        folds: Test ranges.
        train_bars: Length of a training range; not for anchored.
        anchored: Whether every training range begins at the first bar.
        purge_bars: Bars left out between training and test.

    Raises:
        InputError: `too_few_bars`.
    """
    lead = train_bars if train_bars is not None else bars // (folds + 1)
    length = (bars - lead - (purge_bars if train_bars is not None else 0)) // folds
    if length < RANGE_BARS_MIN:
        raise InputError(
            "too_few_bars",
            f"{bars} bars leave no room for {folds} test ranges behind {lead} training bars",
            "use fewer folds, a shorter training range or a longer period",
        )
    found: list[Split] = []
    for fold in range(folds):
        first = bars - (folds - fold) * length
        end = first - purge_bars
        begin = 0 if anchored else max(0, end - lead)
        train = ((begin, end),) if end > begin else ()
        found.append(Split(train=train, test=((first, first + length),)))
    return found


def combinatorial(
    bars: int, folds: int, test_folds: int = 1, purge_bars: int = 0, embargo_bars: int = 0
) -> list[Split]:
    """Returns every choice of `test_folds` of `folds` parts, purged and embargoed; one part is k-fold.

    The parts differ in length by a bar at most, the longer ones first.
    """
    edges = fold_edges(bars, folds)
    found: list[Split] = []
    for chosen in combinations(range(folds), test_folds):
        test = _joined([(edges[fold], edges[fold + 1]) for fold in chosen])
        train: list[Range] = []
        begin = 0
        for first, last in test:
            if first - purge_bars > begin:
                train.append((begin, first - purge_bars))
            begin = last + purge_bars + embargo_bars
        if begin < bars:
            train.append((begin, bars))
        found.append(Split(train=tuple(train), test=tuple(test)))
    return found


def fold_edges(bars: int, folds: int) -> list[int]:
    """Returns where the parts begin, and the number of bars."""
    length, longer = divmod(bars, folds)
    return [fold * length + min(fold, longer) for fold in range(folds + 1)]


def paths(folds: int, test_folds: int) -> list[list[int]]:
    """Returns the backtest paths of combinatorial validation: for each, the split that judges each part.

    Every part is tested in C(folds - 1, test_folds - 1) splits, so there are as many paths; the k-th path
    takes the k-th split of every part (Lopez de Prado 2018, 12.4).
    """
    splits = list(combinations(range(folds), test_folds))
    judges = [[number for number, chosen in enumerate(splits) if fold in chosen] for fold in range(folds)]
    return [[judges[fold][path] for fold in range(folds)] for path in range(len(judges[0]))]


def cell_edges(bars: int, splits: Sequence[Split], blocks: int) -> list[int]:
    """Returns the edges of the finest cells from which every range and equal block can be put together."""
    edges = {0, bars, *fold_edges(bars, blocks)}
    for split in splits:
        for first, last in (*split.train, *split.test):
            edges.update((first, last))
    return sorted(edges)


def _joined(ranges: Sequence[Range]) -> list[Range]:
    joined: list[Range] = []
    for first, last in ranges:
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined
