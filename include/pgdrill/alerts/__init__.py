"""Alerts: what a look at a cluster's health makes of them, and who is told by which channel."""

from __future__ import annotations

from pgdrill.alerts.alerting import Alerting
from pgdrill.alerts.model import AlertState, Link, Message, key_of
from pgdrill.alerts.policy import RULES, Rule
from pgdrill.alerts.secret_sources import SecretSource, from_environment

__all__ = [
    "RULES",
    "AlertState",
    "Alerting",
    "Link",
    "Message",
    "Rule",
    "SecretSource",
    "from_environment",
    "key_of",
]
