"""A process that exports a log to a folder; exit 3 and the error's code on stderr where it fails.

python exporting_process.py DB KEY FOLDER
"""

import sys
from pathlib import Path

from neural_trader_governance.audit.tiles import export
from neural_trader_governance.errors import StorageError
from neural_trader_governance.signing.keys import SigningKey
from neural_trader_governance.store import Store
from neural_trader_governance.terms.clocks import WallClock


def main(database: str, key: str, folder: str) -> None:
    signer = SigningKey.load(Path(key))
    try:
        with Store.open(Path(database), origin=signer.name, signer=signer, clock=WallClock()) as store:
            sys.stdout.write(f"{export(store, Path(folder)).size}\n")
    except StorageError as error:
        sys.stderr.write("\n" + error.code)
        sys.exit(3)


if __name__ == "__main__":
    main(*sys.argv[1:])
