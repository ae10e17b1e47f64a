"""All verbs in one place, and the promise about how they end."""

from __future__ import annotations

import io
import os
import sys

from cytovae.cli import (  # noqa: F401  (they register their verbs)
    apps,
    audits,
    bundles,
    data,
    doses,
    models,
    montages,
    paths,
    phantoms,
    profiles,
    reproduce,
)
from cytovae.cli.console import app, say
from cytovae.errors import FULL, ConfigError, CytovaeError

MOST = 3000
"""Characters of a message; what somebody wrote into a file may be quoted in it."""


def _shortened(failed: CytovaeError) -> str:
    text = str(failed)
    return text if len(text) <= MOST else f"{text[: MOST // 2]} ... {text[-MOST // 2 :]}"


def run() -> None:
    """Entry point of ``cytovae``: exit status 0 done, 1 the work failed, 2 wrong usage, 130 stopped by Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may hold bytes that are no text
    try:
        app()
    except ConfigError as misused:
        say(f"cytovae: {_shortened(misused)}")
        sys.exit(2)
    except CytovaeError as failed:
        say(f"cytovae: {_shortened(failed)}")
        sys.exit(1)
    except MemoryError:
        say("cytovae: there is not enough memory for this; close other programs, or take a part of the data")
        sys.exit(1)
    except OSError as failed:
        if failed.errno in FULL:
            said = f"there is no room for {failed.filename or 'what is written'} ({os.strerror(failed.errno)})"
            say(f"cytovae: {said}; free some space and run the same command again")
        else:
            say(f"cytovae: {failed.strerror or failed}{f': {failed.filename}' if failed.filename else ''}")
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == 130:
            say("cytovae: stopped; run the same command again to go on (train: with --resume)")
        raise
