"""Put before the app by its tests: what files the server opens is written down, and models may be made slow."""

import os
import sys
import time
from pathlib import Path

_log = os.open(os.environ["WATCHED_FILES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _seen(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        how = "w" if isinstance(arguments[1], str) and arguments[1][:1] in "wxa" else "r"
        try:
            name = str(Path(arguments[0]).resolve())
        except (OSError, RuntimeError, ValueError):
            name = arguments[0]
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
