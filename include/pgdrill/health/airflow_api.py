"""Airflow's REST API, asked in a hurry with a login of its own. Only reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from pgdrill.errors import CouldNotVerify, Gone, Refused, Unreachable

SECONDS = 5.0
LOGIN = (401, 403)
NOT_THERE = 404


class AirflowApi:
    """One Airflow. The token of a login is kept until it is refused."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url, self.user, self._password = url.rstrip("/"), user, password
        self._token = ""

    def health(self) -> dict[str, Any]:
        """Return what Airflow says of its parts. Needs no login."""
        found: dict[str, Any] = self._answer("GET", "/api/v2/monitor/health").json()
        return found

    def get(self, *path: str, **params: str | int) -> Any:
        """Return what is at a path, each of whose parts is one; None where nothing is."""
        words = "".join(f"/{quote(part, safe='~')}" for part in path)
        return self._known("GET", f"/api/v2{words}", params=params)

    def waiting_tasks(self, dag_ids: list[str]) -> list[dict[str, Any]]:
        """Return the task instances of these DAGs that wait for a slot."""
        body = {"dag_ids": dag_ids, "state": ["queued", "scheduled"], "page_limit": 100}
        path = "/api/v2/dags/~/dagRuns/~/taskInstances/list"
        found: list[dict[str, Any]] = self._known("POST", path, json=body)["task_instances"]
        return found

    def login(self) -> None:
        """Log in."""
        words = {"username": self.user, "password": self._password}
        token = self._answer("POST", "/auth/token", json=words).json().get("access_token")
        if not isinstance(token, str):
            raise self._strange("no token in the answer to a login")
        self._token = token

    def _known(self, method: str, path: str, **more: Any) -> Any:
        if not self._token:
            self.login()
        try:
            answer = self._answer(method, path, **more)
        except Refused:  # tokens end after a while
            self.login()
            answer = self._answer(method, path, **more)
        return None if answer.status_code == NOT_THERE else answer.json()

    def _answer(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers: Mapping[str, str] = {"Authorization": f"Bearer {self._token}"}
        try:
            answer = httpx.request(
                method, f"{self.url}{path}", timeout=SECONDS,
                headers=headers if self._token and path != "/auth/token" else {}, **more,
            )  # fmt: skip
            if answer.status_code not in (*LOGIN, NOT_THERE):
                answer.raise_for_status()
        except httpx.ConnectError as error:
            raise self._gone(str(error)) from None
        except httpx.HTTPStatusError as error:
            raise self._strange(f"HTTP {error.response.status_code} at {path}") from None
        except httpx.HTTPError as error:
            raise Unreachable(
                "airflow-silent", self._thing, found=f"{type(error).__name__} at {path}",
                expected=f"an answer within {SECONDS:g} s", hint="see how busy its host is",
            ) from None  # fmt: skip
        if answer.status_code in LOGIN:
            raise Refused(
                "airflow-refused", self._thing, found=f"HTTP {answer.status_code} at {path}",
                expected=f"user {self.user!r} let in, who may read DAGs, runs and import errors",
                hint="correct login and password of the Connection airflow.conn_id names",
            )  # fmt: skip
        return answer

    @property
    def _thing(self) -> str:
        return f"Airflow's API at {self.url}"

    def _gone(self, found: str) -> Gone:
        return Gone(
            "airflow-gone", self._thing, found=found, expected="an API server that listens",
            hint="start Airflow's API server, or correct the address",
        )  # fmt: skip

    def _strange(self, found: str) -> CouldNotVerify:
        return CouldNotVerify(
            "airflow-strange", self._thing, found=found, expected="Airflow 3's REST API",
            hint="see that the address is the API server's, and which version it runs",
        )  # fmt: skip
