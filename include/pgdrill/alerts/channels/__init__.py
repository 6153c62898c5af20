"""The channels by which somebody is told."""

from __future__ import annotations

from pgdrill.alert_settings import AlertChannel
from pgdrill.alerts.channels.base import Channel, Credentials, NotSent, Sending, Sent

__all__ = ["Channel", "Credentials", "NotSent", "Sending", "Sent", "make_channel"]


def make_channel(settings: AlertChannel, credentials: Credentials) -> Channel:
    """Return the channel as it is configured. Raises :class:`NotSent` where its secret is not.

    Its library is loaded only then.
    """
    from pgdrill.alerts.channels import apprise, pagerduty, slack, smtp, webhook
    from pgdrill.alerts.channels.base import Maker

    makers: dict[str, Maker] = {
        "smtp": smtp.Mail,
        "slack": slack.Slack,
        "pagerduty": pagerduty.PagerDuty,
        "webhook": webhook.Webhook,
        "apprise": apprise.ByApprise,
    }
    return makers[settings.type](settings, credentials)
