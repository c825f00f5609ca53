"""Identity: on whose behalf something happens, and through which agent."""

from dataclasses import dataclass

from neural_trader_governance.errors import InputError


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling: a person or organisation, and the agent that acts for it.

    Attributes:
        principal: The person or organisation that answers for the call.
        agent: The agent's id; empty where the person acts with their own hands.
    """

    principal: str
    agent: str

    def __post_init__(self) -> None:
        for name, value in (("principal", self.principal), ("agent", self.agent)):
            if len(value) > 80 or not value.isascii() or not (value.isprintable() or value == ""):
                raise InputError(
                    "invalid_caller", f"{name} {value!r:.40} is not a short ASCII name", f"rename the {name}"
                )
        if not self.principal:
            raise InputError("invalid_caller", "the principal is empty", "say who answers for this call")

    @property
    def is_person(self) -> bool:
        """True where no agent stands between the principal and the call."""
        return self.agent == ""
