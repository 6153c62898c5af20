"""``python -I -S …/fence SPEC WORD…``: put a fence around a program.

It imports nothing that takes time.
"""

from __future__ import annotations

import os
import sys

EXIT_CODE = 125  # a fence could not be made; `timeout` and `env` have the same code


def main() -> None:
    """Make the fence, then become the program."""
    sys.path.insert(0, os.path.abspath(f"{__file__}/../../../.."))  # noqa: PTH100
    from pgdrill.host.fence import landlock, namespaces, seccomp
    from pgdrill.host.fence.spec import Spec

    spec, words = Spec.from_json(sys.argv[1]), sys.argv[2:]
    os.umask(0o022)  # for the folders that the new root consists of
    try:
        if spec.kind == "writes":
            landlock.enter(spec.writable, None)
        elif spec.kind == "mounts":
            namespaces.write_only(spec.writable)
        elif spec.kind == "none":
            namespaces.drop_to(spec.uid or os.getuid())
        else:
            if spec.kind == "namespaces":
                namespaces.enter(spec)
            else:
                if spec.uid is not None:
                    namespaces.drop_to(spec.uid)
                landlock.enter(spec.writable, spec.readable)
            seccomp.enter(alone=spec.kind == "namespaces")
        os.umask(0o077)
        os.execvp(words[0], words)  # noqa: S606 - no shell: that is the design
    except OSError as error:
        sys.stderr.write(f"pgdrill: no fence around {words[0]}: {error}\n")
        os._exit(EXIT_CODE)


main()
