"""Every failure this project raises on purpose.

    NeuralTraderError                code, what happened, next step
    ├── InputError                   the caller's argument, file or frame is wrong
    ├── DataError                    market data is missing, stale, malformed or contradictory
    ├── StrategyError                strategy code is invalid, cheated or failed
    ├── ExecutionError               the order path or a broker could not do what was asked
    ├── RiskError                    governance stopped it: approval missing, halted, preview used
    ├── ConfigurationError           settings, keys or packages are missing or wrong
    │   └── HostError                this machine lacks a layer that is needed (exit code 3)
    ├── StorageError                 a durable write or read failed
    ├── NetworkError                 a remote side failed or could not be reached
    └── IntegrityError               something recorded does not verify

A refusal is a value (a verdict with its reasons); an exception is a failure. `RiskError` is for a
call that may not proceed at all, such as submitting a preview that still lacks its approval.
"""

from typing import Any


class NeuralTraderError(Exception):
    """A failure that a person or an agent can act on.

    Args:
        code: Stable snake_case identifier; clients branch on it, so it never changes meaning.
        what: What happened, with the offending value and the bound.
        next_step: What the reader should do now, as an imperative.
        facts: Machine-readable details (decimal strings, not floats) for `--json` output.
    """

    def __init__(self, code: str, what: str, next_step: str, **facts: Any) -> None:
        self.code = code
        self.what = what
        self.next_step = next_step
        self.facts = facts
        super().__init__(f"{code}: {what}; {next_step}")


class InputError(NeuralTraderError):
    """The caller's argument, file or frame is wrong; nothing was changed."""


class DataError(NeuralTraderError):
    """Market data is missing, stale, malformed or contradictory."""


class StrategyError(NeuralTraderError):
    """Strategy code is invalid, looked ahead, or failed while it ran."""


class ExecutionError(NeuralTraderError):
    """The order path or a broker could not do what was asked."""


class RiskError(NeuralTraderError):
    """Governance stopped the call: approval missing, trading halted, preview spent."""


class ConfigurationError(NeuralTraderError):
    """Settings, keys or optional packages are missing or wrong."""


class HostError(ConfigurationError):
    """This machine lacks a layer that the operation needs; the command line exits with 3."""


class StorageError(NeuralTraderError):
    """A durable write or read failed; what was not acknowledged did not happen."""


class NetworkError(NeuralTraderError):
    """A remote side failed or could not be reached."""


class IntegrityError(NeuralTraderError):
    """Something recorded does not verify: a hash, a signature, a sequence."""
