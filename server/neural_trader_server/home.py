"""The home folder: where the desk keeps its keys, its log, its prices and its memory."""

import os
from dataclasses import dataclass
from pathlib import Path

from neural_trader_governance.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one desk, all below `path`. Several processes may work in one home at once."""

    path: Path

    @classmethod
    def locate(cls) -> "Home":
        """Returns the home that `NEURAL_TRADER_HOME` names, else the platform's data folder."""
        named = os.environ.get("NEURAL_TRADER_HOME")
        if named:
            return cls(Path(named).expanduser().absolute())
        import platformdirs

        return cls(Path(platformdirs.user_data_path("neural-trader", appauthor=False)))

    def make(self) -> None:
        """Creates the folders that do not exist yet, readable by their owner only.

        Raises:
            ConfigurationError: the path is a file, or may not be written.
        """
        try:
            for folder in (self.path, self.keys, self.policy, self.archive, self.artifacts, self.memory):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigurationError(
                "home_not_writable",
                f"the home {self.path} cannot be used: {error.strerror or error}",
                "set NEURAL_TRADER_HOME to a folder that you may write",
            ) from error

    @property
    def desk_db(self) -> Path:
        """The governance store: audit log, policies, previews, orders, approvals, halts."""
        return self.path / "desk.db"

    @property
    def usage_db(self) -> Path:
        """What calls cost, counted apart from the log."""
        return self.path / "usage.db"

    @property
    def research_db(self) -> Path:
        """Strategies and backtest runs."""
        return self.path / "research.db"

    @property
    def paper_db(self) -> Path:
        """The paper venue: its orders, fills and the replay clock."""
        return self.path / "paper.db"

    @property
    def bus_db(self) -> Path:
        """What the event bus keeps for replay: copies only."""
        return self.path / "bus.db"

    @property
    def keys(self) -> Path:
        """The folder of the signing keys."""
        return self.path / "keys"

    @property
    def log_key(self) -> Path:
        """The key that signs the log's checkpoints (mode 0600)."""
        return self.keys / "log.key"

    @property
    def log_vkey(self) -> Path:
        """The pinned verifier key of the log."""
        return self.keys / "log.vkey"

    @property
    def approver_key(self) -> Path:
        """The person's key that signs approvals (mode 0600)."""
        return self.keys / "approver.key"

    def approver_key_of(self, name: str | None) -> Path:
        """The key of another approver who signs on this home; of nobody else's, the owner's."""
        own = self.keys / f"approver-{name}.key"
        return own if name is not None and "/" not in name and own.exists() else self.approver_key

    @property
    def approver_vkey(self) -> Path:
        """The verifier key of approvals."""
        return self.keys / "approver.vkey"

    @property
    def issuer_key(self) -> Path:
        """The root of human authority: signs enrolments, mandates, overrides, budgets and policies."""
        return self.keys / "issuer.key"

    @property
    def issuer_vkey(self) -> Path:
        """The pinned verifier key of the issuer; every signed document is checked against it."""
        return self.keys / "issuer.vkey"

    @property
    def witness_vkey(self) -> Path:
        """The pinned verifier key of the witness; outside the database, which could be put back."""
        return self.keys / "witness.vkey"

    @property
    def witness_url(self) -> Path:
        """Where the pinned witness listens."""
        return self.keys / "witness.url"

    @property
    def policy(self) -> Path:
        """The folder of the policy in force."""
        return self.path / "policy"

    @property
    def bundles(self) -> Path:
        """Every signed policy that was ever in force here, by digest."""
        return self.policy / "bundles"

    @property
    def policy_file(self) -> Path:
        """The draft that people edit; `policy activate` puts it in force."""
        return self.policy / "default.cedar"

    @property
    def policy_schema(self) -> Path:
        """The Cedar schema that they are checked against."""
        return self.policy / "default.cedarschema"

    @property
    def archive(self) -> Path:
        """The market archive (Parquet)."""
        return self.path / "archive"

    @property
    def artifacts(self) -> Path:
        """Frames behind handles (Arrow IPC)."""
        return self.path / "artifacts"

    @property
    def memory(self) -> Path:
        """What was learned (LanceDB)."""
        return self.path / "memory"

    @property
    def e2b_consent(self) -> Path:
        """A person's consent that strategies and data go to an E2B service."""
        return self.path / "consent-e2b.json"

    @property
    def config(self) -> Path:
        """Settings of this home, below the environment's."""
        return self.path / "config.toml"
