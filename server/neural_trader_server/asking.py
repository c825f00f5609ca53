"""Asking: tells the user, where the client can, that an order waits for a signature; a convenience.

The client answers a question, which proves no human: whatever it answers, the desk looks again for the
signature itself, and the order is submitted only if that is there.
"""

from typing import Any

import anyio
import structlog
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, InputRequiredResult, TextContent
from mcp_types import ElicitRequest, ElicitRequestFormParams
from pydantic import BaseModel, Field

WAIT_S = 90.0
"""The longest that a client of the older protocol may think; less than a tool call may take."""

_WAITS = "approval_required: "
_QUESTION = "approval"
_MODERN = "2026-07-28"

log = structlog.get_logger(__name__)


class Answer(BaseModel):
    """What the user says; it changes nothing by itself."""

    done: bool = Field(default=True, description="The approver has signed; look again")


def waits_for_a_person(result: object) -> str | None:
    """Returns the refusal's words where an order lacks its signature, else None."""
    if not isinstance(result, CallToolResult) or not result.is_error or not result.content:
        return None
    first = result.content[0]
    return first.text if isinstance(first, TextContent) and first.text.startswith(_WAITS) else None


async def ask(context: Context[Any, Any], refusal: str) -> InputRequiredResult | bool:
    """Asks the user to have the order signed, once.

    Returns:
        True to look again, False to leave it at the refusal; on the newer protocol, what the client is to
        answer before it calls again.
    """
    if not _can_ask(context):
        return False
    message = f"{refusal.removeprefix(_WAITS)}. Say when it is signed; your answer here signs nothing."
    version = context.protocol_version
    if version is not None and version >= _MODERN:
        if context.input_responses is not None:
            return False  # it was asked, answered, and looked at again: that was the look
        schema = {"type": "object", "properties": Answer.model_json_schema()["properties"]}
        form = ElicitRequestFormParams(message=message, requested_schema=schema)
        return InputRequiredResult(input_requests={_QUESTION: ElicitRequest(params=form)})
    try:
        with anyio.fail_after(WAIT_S):
            answer = await context.elicit(message, Answer)
    except Exception as error:  # whatever a client does with a question, the refusal stands
        log.info("question_unanswered", error=type(error).__name__)
        return False
    return answer.action == "accept"


def _can_ask(context: Context[Any, Any]) -> bool:
    capabilities = context.client_capabilities
    wanted = capabilities.elicitation if capabilities is not None else None
    return wanted is not None and (wanted.form is not None or wanted.url is None)
