"""The tool `audit_verify`: recompute the log, and prove that an entry is in it."""

from typing import Annotated

import anyio.to_thread
from pydantic import BaseModel, Field

from neural_trader_governance.audit import log, merkle
from neural_trader_governance.audit.verify import verify_connection
from neural_trader_governance.errors import InputError
from neural_trader_governance.store import Store

_PROBLEMS_SHOWN = 5
_SEQ_MAX = 2**53 - 1


class InclusionProof(BaseModel):
    """Audit path of RFC 6962 section 2.1.1 from the leaf up to the root."""

    seq: int
    leaf_hash: str
    hashes: list[str] = Field(description="Sibling hashes from the leaf upwards, hex")


class FoundProblem(BaseModel):
    """One thing that does not verify."""

    seq: int | None = Field(description="The entry, where one can be named")
    what: str


class AuditVerifyResult(BaseModel):
    """What a full recomputation against the desk's own key found."""

    ok: bool
    size: int
    root: str
    checkpoint: str = Field(description="Signed note (C2SP tlog-checkpoint) over size and root")
    vkey: str = Field(description="Verifier key of the log; whoever checks should have pinned it before")
    archived_unread: int = Field(
        default=0, description="Archived entries whose bytes are not here; their hashes were checked"
    )
    inclusion_proof: InclusionProof | None = Field(default=None, description="For `seq`, against `root`")
    problems: list[FoundProblem] = Field(default_factory=list[FoundProblem], description="The first ones")


async def audit_verify(
    store: Store,
    *,
    seq: Annotated[int | None, Field(description="Also prove that this entry is in the log")] = None,
) -> AuditVerifyResult:
    """Recompute the whole audit log: every entry, hash and signature; names the first bad entry."""

    def verify() -> AuditVerifyResult:
        with store.read() as connection:
            found = log.read_checkpoint(connection)
            size, checkpoint = found or (0, "")
            if seq is not None and not 0 <= seq < min(size, _SEQ_MAX):
                raise InputError(
                    "unknown_seq",
                    f"the audit log of {size} entries has no entry {seq}",
                    "take one from audit_search",
                )
            report = verify_connection(connection, store.signer.pins())
            proof = None
            # A proof from damaged hashes proves nothing: it is left out, and the problems say why.
            if seq is not None and report.ok:
                read = log.node_reader(connection)
                path = merkle.inclusion_proof(read, seq, report.size)
                leaf = read(0, seq)
                proof = InclusionProof(seq=seq, leaf_hash=leaf.hex(), hashes=[step.hex() for step in path])
            problems = [
                FoundProblem(seq=problem.seq, what=problem.what[:300])
                for problem in report.problems[:_PROBLEMS_SHOWN]
            ]
            return AuditVerifyResult(
                ok=report.ok,
                size=report.size,
                root=report.root,
                checkpoint=checkpoint,
                vkey=store.vkey,
                archived_unread=report.unread,
                inclusion_proof=proof,
                problems=problems,
            )

    return await anyio.to_thread.run_sync(verify)
