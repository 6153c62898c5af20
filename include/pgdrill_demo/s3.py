"""An S3 store in a folder: ``rclone serve s3`` on a free port of the loopback interface."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path

from pgdrill.host.process import end_group, mark_process

POLL_SECONDS = 0.02
STARTED = re.compile(r"Starting s3 server on \[(https?://[^\]/]+)/?\]")


def program(name: str) -> str:
    """A program that pip installed beside this Python."""
    return str(Path(sysconfig.get_path("scripts")) / name)


@dataclass
class S3Server:
    """One store; its keys are made up anew at every start and never shown."""

    folder: Path
    bucket: str = "backups"
    access_key: str = field(default_factory=lambda: f"demo{secrets.token_hex(6)}", repr=False)
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)
    endpoint_url: str = ""
    certificate: Path | None = None  # its key lies beside it, as .key; None: plain http
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}

    def start(self) -> None:
        """Start, and return when the server has said on which port it listens.

        Nothing to do where it runs.
        """
        if self.process is not None and self.process.poll() is None:
            return
        (self.folder / self.bucket).mkdir(parents=True, exist_ok=True)
        address = self.endpoint_url.partition("://")[2] or "127.0.0.1:0"
        secured = self.certificate and (
            "--cert",
            str(self.certificate),
            "--key",
            str(self.certificate.with_suffix(".key")),
        )
        log = self.folder.parent / "s3.log"
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [
                    program("rclone"),
                    "serve",
                    "s3",
                    str(self.folder),
                    "--addr",
                    address,
                    "--config",
                    os.devnull,
                    # else the first listing of an object reads it whole, as no real store does
                    "--log-level",
                    "INFO",
                    "--etag-hash",
                    "",
                    *(secured or ()),
                ],
                env={**os.environ, "RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"'},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        mark_process(self.folder.parent / "s3.pid", self.process.pid)
        while not (match := STARTED.search(log.read_text())):
            if self.process.poll() is not None:
                raise RuntimeError(f"rclone serve s3 ended: {log.read_text()[-500:]}")
            time.sleep(POLL_SECONDS)  # the log is the only place where it says its port
        self.endpoint_url = match[1]

    def stop(self) -> None:
        """End the server; nothing to do where none runs. A later start listens where it did
        before."""
        if self.process is not None:
            end_group(self.process.pid)
            self.process.wait()
            self.process = None
