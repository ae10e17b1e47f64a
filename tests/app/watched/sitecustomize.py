"""Put before the app by its tests: what files the server opens is written down, and models may be made slow."""

import os
import sys
import time
from pathlib import Path

_log = os.open(os.environ["WATCHED_FILES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.truncate", "sqlite3.connect"}


def _seen(event, arguments):
    if event in _CHANGES:
        how = "w"
    elif event == "open":
        how = "w" if isinstance(arguments[2], int) and arguments[2] & _WRITES else "r"
    elif event in ("os.listdir", "os.scandir"):
        how = "r"
    else:
        return
    for given in arguments[:2] if event in ("os.rename", "os.link", "os.symlink") else arguments[:1]:
        if not isinstance(given, (str, bytes, os.PathLike)):  # a file that is open already
            continue
        given = os.fsdecode(given)
        try:
            name = str(Path(given).resolve())
        except (OSError, RuntimeError, ValueError):
            name = given
        os.write(_log, f"{how} {name!a}\n".encode())


sys.addaudithook(_seen)


class _Slow:
    """Finds ``cytovae.learn.bundle`` once, and makes each block of what its bundles decode take a while."""

    def find_spec(self, name, path=None, target=None):
        if name != "cytovae.learn.bundle":
            return None
        import importlib.util

        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            load, module.BLOCK = module.load, 2

            def slow(*values, **named):
                import dataclasses

                made = load(*values, **named)
                decode = made.decode_block

                def decode_block(z):
                    slow = Path(os.environ["WATCHED_SLOW"])
                    if slow.exists():
                        with slow.open("a") as blocks:
                            blocks.write(".")
                        time.sleep(0.5)
                    return decode(z)

                return dataclasses.replace(made, decode_block=decode_block)

            module.load = slow

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Slow())
