"""Problems: what can be wrong between the memory, the log and the orders, each with its meaning."""

from typing import Final

from pydantic import Field

from neural_trader_governance.terms.term import Term

WHAT: Final = {
    "missing_row": "the log holds the write, the store does not: a crash in between, or a row removed",
    "unaudited_row": "the store holds it, and no audit entry is named",
    "wrong_entry": "the audit entry that it names is not of this write",
    "wrong_leaf": "the entry's hash is not the one that the row carries",
    "altered_row": "its fields do not match its content hash",
    "double_row": "the store holds this revision twice",
    "broken_chain": "it follows a revision that the store does not hold",
    "recall_unknown": "the log says that an agent was shown it, and the store holds no such revision",
    "recall_unmade": "an order lists a recall that its agent did not make, or another content of it",
    "recall_unlisted": "an order does not list what its agent had recalled before it",
    "unrecorded_reindex": "its vectors are of another embedder than the log's newest reindex says",
    "unfinished_reindex": "the log lacks a reindex's end; run `neural-trader memory reindex` again",
    "foreign_vector": "its vector is of another embedder; run `neural-trader memory reindex`",
}


class Problem(Term):
    """One thing that does not fit."""

    code: str = Field(description=f"One of {', '.join(WHAT)}")
    memory_id: str
    rev: int
    agent: str
    audit_seq: int | None
    what: str
