"""server.json: what the MCP registry would list. Nothing is published yet, and the file says so.

    python -m release.registry > server.json

A publisher gives the namespace that they own (`python -m release.registry io.github.you`), puts the same name
into the README's `mcp-name` line, uploads the wheel to PyPI, and runs `mcp-publisher publish`.
"""

import json
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ROOT = Path(__file__).parents[1]
PLACEHOLDER = "io.github.OWNER"
SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
UNPUBLISHED = "Nothing is published: OWNER and the package on PyPI are placeholders until somebody does."


class _Part(BaseModel):
    """A part of the document; bounds and words are those of the registry's schema of 2025-12-11."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Transport(_Part):
    type: Literal["stdio"] = "stdio"


class Positional(_Part):
    type: Literal["positional"] = "positional"
    value: str


class Variable(_Part):
    name: str
    description: str
    format: Literal["string", "number", "boolean", "filepath"] = "string"
    is_required: bool = Field(default=False, alias="isRequired")


class Package(_Part):
    registry_type: Literal["pypi"] = Field(default="pypi", alias="registryType")
    identifier: str
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    runtime_hint: Literal["uvx"] = Field(default="uvx", alias="runtimeHint")
    transport: Transport = Transport()
    package_arguments: list[Positional] = Field(alias="packageArguments")
    environment_variables: list[Variable] = Field(alias="environmentVariables")


class Server(_Part):
    """The document."""

    schema_: Literal["https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"] = Field(
        default=SCHEMA, alias="$schema"
    )
    name: Annotated[str, Field(min_length=3, max_length=200, pattern=r"^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$")]
    title: Annotated[str, Field(min_length=1, max_length=100)] = "Neural Trader"
    description: Annotated[str, Field(min_length=1, max_length=100)]
    version: Annotated[str, Field(max_length=255)]
    packages: list[Package]
    meta: dict[Literal["io.modelcontextprotocol.registry/publisher-provided"], dict[str, Any]] | None = Field(
        default=None, alias="_meta"
    )


def document(namespace: str = PLACEHOLDER) -> Server:
    """Returns the document for whoever owns the namespace; by default with placeholders."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = str(project["version"])
    home = Variable(name="NEURAL_TRADER_HOME", description="The desk's folder", format="filepath")
    said = {"io.modelcontextprotocol.registry/publisher-provided": {"note": UNPUBLISHED}}
    return Server(
        name=f"{namespace}/neural-trader",
        description="A trading desk for agents: data, backtests in a sandbox, governed and audited orders.",
        version=version,
        packages=[
            Package(
                identifier=str(project["name"]),
                version=version,
                packageArguments=[Positional(value="serve")],
                environmentVariables=[home],
            )
        ],
        _meta=said if namespace == PLACEHOLDER else None,  # pyright: ignore[reportArgumentType]  # its one key
    )


def text(namespace: str = PLACEHOLDER) -> str:
    """Returns the file's text."""
    plain = document(namespace).model_dump(mode="json", by_alias=True, exclude_none=True)
    return json.dumps(plain, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text(*sys.argv[1:2]))
