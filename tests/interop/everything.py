"""What the conformance suite expects a server to have: its fixture tools, resources and prompts.

They stand behind our own builder, so that the suite tests our gate, front and sealing with them. The names
and most of the words are the suite's; nothing outside tests/ knows of this module.
"""

import base64
import json
from collections.abc import Callable
from typing import Annotated, Any, cast

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp.types import (
    AudioContent,
    CallToolResult,
    Completion,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from mcp_types import InputRequest, InputRequests
from pydantic import BaseModel, Field, TypeAdapter

from neural_trader_server.app import Services, build_server
from neural_trader_server.catalogue import ToolSpec
from neural_trader_server.endpoint import Endpoint

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA="
STEP_S = 0.02
MODERN = "2026-07-28"
Ctx = Context[Any, Any]
Answer = CallToolResult | InputRequiredResult
_requests: TypeAdapter[InputRequest] = TypeAdapter(InputRequest)


def text(words: str, *, is_error: bool = False) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=words)], is_error=is_error)


def form(message: str, **properties: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return {"method": "elicitation/create", "params": {"message": message, "requestedSchema": schema}}


def sample(prompt: str) -> dict[str, Any]:
    message = {"role": "user", "content": {"type": "text", "text": prompt}}
    return {"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": 100}}


ROOTS: dict[str, Any] = {"method": "roots/list"}


def asks(state: str | None = None, **requests: dict[str, Any]) -> InputRequiredResult:
    """What a client is to answer before it calls again."""
    read: InputRequests = {name: _requests.validate_python(request) for name, request in requests.items()}
    return InputRequiredResult(input_requests=read, request_state=state)


def answered(ctx: Ctx, name: str) -> dict[str, Any]:
    """What the client answered; empty where it did not."""
    response = (ctx.input_responses or {}).get(name)
    return {} if response is None else response.model_dump(mode="json", by_alias=True, exclude_none=True)


def filled(ctx: Ctx, name: str) -> dict[str, Any]:
    """What the user filled in; empty where he declined."""
    return cast("dict[str, Any]", answered(ctx, name).get("content") or {})


async def test_simple_text() -> CallToolResult:
    return text("This is a simple text response for testing.")


async def test_image_content() -> CallToolResult:
    return CallToolResult(content=[ImageContent(type="image", data=PNG, mime_type="image/png")])


async def test_audio_content() -> CallToolResult:
    return CallToolResult(content=[AudioContent(type="audio", data=WAV, mime_type="audio/wav")])


def resource(uri: str, mime_type: str, words: str) -> EmbeddedResource:
    inner = TextResourceContents(uri=uri, mime_type=mime_type, text=words)
    return EmbeddedResource(type="resource", resource=inner)


async def test_embedded_resource() -> CallToolResult:
    return CallToolResult(
        content=[resource("test://embedded-resource", "text/plain", "An embedded resource.")]
    )


async def test_multiple_content_types() -> CallToolResult:
    return CallToolResult(
        content=[
            TextContent(type="text", text="Multiple content types test:"),
            ImageContent(type="image", data=PNG, mime_type="image/png"),
            resource("test://mixed-content-resource", "application/json", '{"test": "data", "value": 123}'),
        ]
    )


async def test_tool_with_logging(ctx: Ctx) -> CallToolResult:
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(said)  # pyright: ignore[reportDeprecated]  # the older protocol's
        await anyio.sleep(STEP_S)
    return text("Tool with logging executed successfully")


async def test_tool_with_progress(ctx: Ctx) -> CallToolResult:
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100, f"Completed step {done} of 100")
        await anyio.sleep(STEP_S)
    return text("Progress completed")


async def test_error_handling() -> CallToolResult:
    return text("This tool intentionally returns an error for testing", is_error=True)


async def test_missing_capability() -> CallToolResult:
    raise MCPError(-32021, "Missing required client capability", {"requiredCapabilities": {"sampling": {}}})


async def test_reconnection(ctx: Ctx) -> CallToolResult:
    await ctx.close_sse_stream()
    await anyio.sleep(STEP_S)
    return text("Reconnection test completed")


async def test_sampling(prompt: str, ctx: Ctx) -> Answer:
    if (ctx.protocol_version or "") >= MODERN:
        return await test_input_required_result_sampling(ctx)
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    result = await ctx.session.create_message(  # pyright: ignore[reportDeprecated]  # the older protocol's
        messages=[message], max_tokens=100, related_request_id=ctx.request_id
    )
    return text(f"LLM response: {getattr(result.content, 'text', '')}")


class Reply(BaseModel):
    username: str = ""
    email: str = ""


async def test_elicitation(message: str, ctx: Ctx) -> CallToolResult:
    return await elicited(ctx, message, Reply)


class Defaults(BaseModel):
    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: str = Field(default="active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = True


async def test_elicitation_sep1034_defaults(ctx: Ctx) -> CallToolResult:
    return await elicited(ctx, "Please review the defaults", Defaults)


def titled(*names: str) -> list[Any]:
    return [{"const": f"value{number}", "title": name} for number, name in enumerate(names, 1)]


THREE: list[Any] = ["option1", "option2", "option3"]


class Enums(BaseModel):
    untitledSingle: str = Field(json_schema_extra={"enum": THREE})  # noqa: N815 - the suite's name
    titledSingle: str = Field(  # noqa: N815
        json_schema_extra={"oneOf": titled("First Option", "Second Option", "Third Option")}
    )
    untitledMulti: list[str] = Field(json_schema_extra={"items": {"type": "string", "enum": THREE}})  # noqa: N815
    titledMulti: list[str] = Field(json_schema_extra={"items": {"anyOf": titled("First", "Second", "Third")}})  # noqa: N815
    legacyEnum: str = Field(  # noqa: N815
        json_schema_extra={"enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]}
    )


async def test_elicitation_sep1330_enums(ctx: Ctx) -> CallToolResult:
    return await elicited(ctx, "Please choose", Enums)


async def elicited(ctx: Ctx, message: str, schema: type[BaseModel]) -> CallToolResult:
    result = await ctx.elicit(message, schema)
    content = result.data.model_dump_json() if result.action == "accept" else "{}"
    return text(f"Elicitation completed: action={result.action}, content={content}")


async def test_input_required_result_elicitation(ctx: Ctx) -> Answer:
    name = filled(ctx, "user_name").get("name")
    return text(f"Hello, {name}!") if name else asks(user_name=form("What is your name?", name="string"))


async def test_input_required_result_sampling(ctx: Ctx) -> Answer:
    if not answered(ctx, "sample_request"):
        return asks(sample_request=sample("What is the capital of France?"))
    return text(f"Sampling result: {filled(ctx, 'sample_request').get('text')}")


async def test_input_required_result_list_roots(ctx: Ctx) -> Answer:
    if not answered(ctx, "roots_request"):
        return asks(roots_request=ROOTS)
    return text(f"Found {len(answered(ctx, 'roots_request').get('roots', []))} root(s)")


async def test_input_required_result_request_state(ctx: Ctx) -> Answer:
    if ctx.request_state == "asked" and filled(ctx, "confirm").get("ok") is True:
        return text("state-ok: requestState validated")
    return asks("asked", confirm=form("Please confirm", ok="boolean"))


async def test_input_required_result_tampered_state(ctx: Ctx) -> Answer:
    if ctx.request_state == "sealed" and answered(ctx, "confirm"):
        return text("integrity-ok: state verified")
    return asks("sealed", confirm=form("Please confirm", ok="boolean"))


async def test_input_required_result_multiple_inputs(ctx: Ctx) -> Answer:
    wanted = {
        "user_name": form("What is your name?", name="string"),
        "greeting": sample("Greet"),
        "client_roots": ROOTS,
    }
    if ctx.request_state == "three" and all(answered(ctx, name) for name in wanted):
        return text("Multiple inputs completed")
    return asks("three", **wanted)


async def test_input_required_result_multi_round(ctx: Ctx) -> Answer:
    if ctx.request_state == "2" and answered(ctx, "step2"):
        return text("Multi-round complete")
    if ctx.request_state == "1" and answered(ctx, "step1"):
        return asks("2", step2=form("Step 2: What is your favorite color?", color="string"))
    return asks("1", step1=form("Step 1: What is your name?", name="string"))


async def test_input_required_result_capabilities(ctx: Ctx) -> Answer:
    if ctx.input_responses:
        return text(f"capabilities-ok: received {','.join(ctx.input_responses)}")
    has = ctx.client_capabilities
    wanted: dict[str, Any] = {}
    if has is not None and has.elicitation is not None:
        wanted["elicit_input"] = form("Elicitation input", value="string")
    if has is not None and has.sampling is not None:
        wanted["sample_input"] = sample("Sample request")
    return asks("capable", **wanted) if wanted else text("No supported capabilities declared")


async def json_schema_2020_12_tool(
    name: str = "", address: Any = None, phone: str = "", email: str = ""
) -> CallToolResult:
    return text(json.dumps([name, address, phone, email]))


async def custom_header_tool(
    header_value: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Test-Value"})],
) -> CallToolResult:
    return text(header_value)


async def test_trigger_tool_change(ctx: Ctx) -> CallToolResult:
    await ctx.notify_tools_changed()
    return text("Tool list changed")


async def test_trigger_prompt_change(ctx: Ctx) -> CallToolResult:
    await ctx.notify_prompts_changed()
    return text("Prompt list changed")


async def test_trigger_resource_update(ctx: Ctx) -> CallToolResult:
    await ctx.notify_resource_updated("test://watched-resource")
    return text("Resource updated")


SCHEMA_2020_12: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

FIXTURES: tuple[Callable[..., Any], ...] = (
    test_simple_text,
    test_image_content,
    test_audio_content,
    test_embedded_resource,
    test_multiple_content_types,
    test_tool_with_logging,
    test_tool_with_progress,
    test_error_handling,
    test_missing_capability,
    test_reconnection,
    test_sampling,
    test_elicitation,
    test_elicitation_sep1034_defaults,
    test_elicitation_sep1330_enums,
    test_input_required_result_elicitation,
    test_input_required_result_sampling,
    test_input_required_result_list_roots,
    test_input_required_result_request_state,
    test_input_required_result_tampered_state,
    test_input_required_result_multiple_inputs,
    test_input_required_result_multi_round,
    test_input_required_result_capabilities,
    custom_header_tool,
    test_trigger_tool_change,
    test_trigger_prompt_change,
    test_trigger_resource_update,
)


def everything(services: Services) -> Endpoint:
    """Returns our server with the suite's fixtures behind our gate."""

    def mounted(function: Callable[..., Any], **changed: Any) -> tuple[ToolSpec, Tool]:
        name = function.__name__
        tool = Tool.from_function(function, name=name, description="A fixture.", structured_output=False)
        return ToolSpec(name, "", "ui", name), tool.model_copy(update=changed)

    more = [mounted(function) for function in FIXTURES]
    more.append(mounted(json_schema_2020_12_tool, parameters=SCHEMA_2020_12))
    # Some scenarios call whatever is listed first, which must not be a tool of ours that takes seconds.
    server = build_server(services, toolsets="ui", more=more)
    _offer_resources(server)
    _offer_prompts(server)
    _answer_older_requests(server)
    return server


def _offer_resources(server: Endpoint) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def _text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def _binary() -> bytes:
        return base64.b64decode(PNG)

    @server.resource("test://watched-resource", mime_type="text/plain")
    def _watched() -> str:
        return "Watched resource content"

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def _template(id: str) -> str:  # noqa: A002 - the suite's name
        if not id:
            raise ResourceNotFoundError("there is none")
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    del _text, _binary, _watched, _template


def _offer_prompts(server: Endpoint) -> None:
    @server.prompt("test_simple_prompt", description="A fixture.")
    def _simple() -> str:
        return "This is a simple prompt for testing."

    @server.prompt("test_prompt_with_arguments", description="A fixture.")
    def _arguments(arg1: str, arg2: str) -> str:
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt("test_prompt_with_embedded_resource", description="A fixture.")
    def _embedded(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the suite's name
        shown = resource(resourceUri, "text/plain", "Embedded resource content for testing.")
        return [
            UserMessage(content=shown),
            UserMessage(content="Please process the embedded resource above."),
        ]

    @server.prompt("test_prompt_with_image", description="A fixture.")
    def _image() -> list[UserMessage]:
        shown = ImageContent(type="image", data=PNG, mime_type="image/png")
        return [UserMessage(content=shown), UserMessage(content="Please analyze the image above.")]

    @server.prompt("test_input_required_result_prompt", description="A fixture.")
    def _asking(ctx: Ctx) -> str | InputRequiredResult:
        said = filled(ctx, "user_context").get("context")
        return (
            f"Prompt with context: {said}"
            if said
            else asks(user_context=form("Which context?", context="string"))
        )

    del _simple, _arguments, _embedded, _image, _asking


def _answer_older_requests(server: Endpoint) -> None:
    """What 2025-11-25 had and 2026-07-28 has no more; our own tools need none of it."""
    low = server._lowlevel_server  # pyright: ignore[reportPrivateUsage]  # the suite's fixtures need it

    def older(ctx: Any) -> None:
        if (ctx.protocol_version or "") >= MODERN:
            raise MCPError(-32601, "Method not found")

    async def level(ctx: Any, params: SetLevelRequestParams) -> EmptyResult:
        older(ctx)
        return EmptyResult()

    async def subscribe(ctx: Any, params: SubscribeRequestParams) -> EmptyResult:
        older(ctx)
        return EmptyResult()

    async def unsubscribe(ctx: Any, params: UnsubscribeRequestParams) -> EmptyResult:
        older(ctx)
        return EmptyResult()

    low.add_request_handler("logging/setLevel", SetLevelRequestParams, level)
    low.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
    low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)
    if low.get_request_handler("completion/complete") is None:

        @server.completion()
        async def _complete(ref: Any, argument: Any, context: Any) -> Completion:
            del ref, argument, context
            return Completion(values=[], total=0, has_more=False)

        del _complete
