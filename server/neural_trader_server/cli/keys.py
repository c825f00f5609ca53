"""`neural-trader keys`: the private keys of this home, locked by a passphrase or not."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neural_trader_server.cli.terminal import Json, emit, group, out, show_table, with_desk

if TYPE_CHECKING:
    from neural_trader_governance.signing.keys import SigningKey
    from neural_trader_governance.signing.mldsa import MldsaSigningKey
    from neural_trader_server.app import Services
    from neural_trader_server.keyholder import KeyRole

app = group(
    "keys",
    "The private keys of this home.\n\n"
    "A locked key opens with its passphrase. The approver's and the issuer's ask on the terminal, then look"
    " in NEURAL_TRADER_<ROLE>_PASSPHRASE, then in the operating system's keyring; the log's and the witness's"
    " look there first, because servers have no terminal.",
)

KeyName = Annotated[
    str,
    typer.Argument(
        help="approver, approver-NAME, issuer, log, log-mldsa, witness, or the path of a key file."
    ),
]


@app.command("list")
def list_keys(json_output: Json = False) -> None:
    """Show every key of this home: whose it is, and whether a passphrase locks it."""
    from neural_trader_server.home import Home

    rows = [_row(path) for path in sorted(Home.locate().keys.glob("*.key"))]
    if json_output:
        emit({"keys": rows})
        return
    show_table("Keys", ("key", "state", "verifier key"), (tuple(row.values())[:3] for row in rows))


@app.command()
def lock(
    key: KeyName,
    keyring: Annotated[
        bool, typer.Option("--keyring", help="Also keep the passphrase in the operating system's keyring.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Lock a key with a passphrase, or change its passphrase.

    Without a terminal the passphrase comes from NEURAL_TRADER_<ROLE>_PASSPHRASE. A copy of the unlocked file
    that a backup or the disk still holds stays readable: rotate a key that others could have read.
    """
    from neural_trader_governance.errors import ConfigurationError
    from neural_trader_server.keyholder import choose_passphrase, keep_passphrase

    path, role = _find(key)
    opened = _load(path, role)
    passphrase = choose_passphrase(role)
    if not passphrase:
        raise ConfigurationError(
            "no_passphrase",
            "no passphrase was given, and there is no terminal to ask on",
            f"run it on a terminal, or set {role.variable}",
        )
    if keyring:
        keep_passphrase(opened.vkey, passphrase)
    opened.replace(path, passphrase)
    _say(path, "locked", opened.vkey, json_output)


@app.command()
def unlock(key: KeyName, json_output: Json = False) -> None:
    """Write a key without its passphrase again; whoever reads the file can then sign."""
    from neural_trader_server.keyholder import forget_passphrase

    path, role = _find(key)
    opened = _load(path, role)
    opened.replace(path)
    forget_passphrase(opened.vkey)
    _say(path, "unlocked", opened.vkey, json_output)


@app.command()
def rotate(
    key: Annotated[str, typer.Argument(help="Which key; only `log` has a successor inside the log.")],
    overlap: Annotated[
        int, typer.Option(help="For how many entries the old key signs beside the new one.", min=0)
    ] = 1000,
    json_output: Json = False,
) -> None:
    """Put a new key in force for the log, on the record; the old one vouches for it.

    Servers that run follow by themselves. A witness follows when its operator tells it: witness trust FILE.
    """
    from neural_trader_governance.audit.key_files import rotate_log_key
    from neural_trader_governance.errors import InputError
    from neural_trader_governance.signing.keys import VerifyingKey
    from neural_trader_server.founding import log_key_files, write_vkey
    from neural_trader_server.keyholder import KeyRole, choose_passphrase, is_locked

    if key != "log":
        raise InputError(
            "unknown_rotation",
            f"{key!r:.40} is not rotated in the log",
            "make a new approver with `neural-trader identity keygen`; only `log` rotates here",
        )

    async def run(services: "Services") -> dict[str, Any]:
        home = services.home
        passphrase = choose_passphrase(KeyRole.LOG) if is_locked(home.log_key) else None
        done = rotate_log_key(
            services.store,
            log_key_files(home),
            caller=services.person,
            overlap_entries=overlap,
            passphrase=passphrase,
        )
        new = VerifyingKey.parse(done.new_vkey)
        path = home.keys / f"log-{new.key_id.hex()}.vkey"
        write_vkey(path, new.vkey)
        return {
            "seq": done.seq,
            "old_vkey": done.old_vkey,
            "new_vkey": done.new_vkey,
            "overlap_until": done.overlap_until,
            "vkey_file": str(path),
        }

    result = with_desk(run)
    if json_output:
        emit(result)
        return
    out().print(f"The log is signed by {result['new_vkey']} from entry {result['seq']} on.", soft_wrap=True)
    out().print(
        f"Both keys sign up to {result['overlap_until']} entries. Tell the witness's operator before:"
        f" neural-trader witness trust {result['vkey_file']}",
        soft_wrap=True,
    )


@app.command()
def mldsa(json_output: Json = False) -> None:
    """Give the log a second key, ML-DSA-44, which quantum computers do not break; on the record.

    From its entry on every checkpoint bears both signatures; whoever checks pins both keys. It is locked
    with the log's passphrase where the log's key is locked. There is no way back but a new home.
    """
    from neural_trader_governance.audit.entries import AuditEntry, EntryType
    from neural_trader_server.founding import log_key_files
    from neural_trader_server.keyholder import KeyRole, choose_passphrase, is_locked

    async def run(services: "Services") -> dict[str, Any]:
        home = services.home
        files = log_key_files(home)
        passphrase = choose_passphrase(KeyRole.LOG) if is_locked(home.log_key) else None
        vkey = files.enable_mldsa(passphrase)
        with services.store.unit() as unit:
            seq = unit.append(AuditEntry.by(services.person, EntryType.KEY_ADD, payload={"vkey": vkey}))
        return {"seq": seq, "vkey": vkey, "vkey_file": str(files.mldsa_vkey)}

    result = with_desk(run)
    if json_output:
        emit(result)
        return
    out().print(f"From entry {result['seq']} on every checkpoint bears an ML-DSA-44 signature too.")
    out().print(
        f"Keep a copy of {result['vkey_file']} outside the desk, and check with both:"
        " neural-trader audit verify DIR --vkey log.vkey --mldsa-vkey log-mldsa.vkey",
        soft_wrap=True,
    )


def _find(name: str) -> tuple[Path, "KeyRole"]:
    """Returns the file and the role of a key that a person named.

    Raises:
        InputError: there is no such key.
    """
    from neural_trader_governance.errors import InputError
    from neural_trader_server.home import Home
    from neural_trader_server.keyholder import KeyRole
    from neural_trader_server.witness_service import locate_witness

    folder = Home.locate().keys
    path = Path(name) if "/" in name or name.endswith(".key") else folder / f"{name}.key"
    if name == KeyRole.WITNESS:
        path = locate_witness() / "witness.key"
    stem = path.name.removesuffix(".key").partition("-")[0]
    if not path.is_file() or stem not in list(KeyRole):
        raise InputError(
            "unknown_key", f"there is no key {name!r:.80}", "take a name from `neural-trader keys list`"
        )
    return path, KeyRole(stem)


def _load(path: Path, role: "KeyRole") -> "SigningKey | MldsaSigningKey":
    from neural_trader_server.keyholder import load_key, load_mldsa_key

    return load_mldsa_key(path) if path.name == "log-mldsa.key" else load_key(path, role)


def _row(path: Path) -> dict[str, str]:
    from neural_trader_governance.errors import ConfigurationError
    from neural_trader_governance.signing.keys import vkey_of
    from neural_trader_server.keyholder import is_locked

    name = path.name.removesuffix(".key")
    try:
        state = "locked" if is_locked(path) else "not locked"
    except ConfigurationError as error:
        return {"key": name, "state": error.code, "vkey": "", "file": str(path)}
    try:
        vkey = vkey_of(path)
    except ConfigurationError:  # a key of another kind, such as ML-DSA-44: its public half lies beside it
        public = path.with_suffix(".vkey")
        vkey = public.read_text(encoding="ascii").strip()[:120] if public.is_file() else ""
    return {"key": name, "state": state, "vkey": vkey, "file": str(path)}


def _say(path: Path, state: str, vkey: str, json_output: bool) -> None:
    if json_output:
        emit({"file": str(path), "state": state, "vkey": vkey})
    else:
        out().print(f"{path} is {state}.", soft_wrap=True)
