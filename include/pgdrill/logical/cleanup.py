"""The removal of what dumps that failed or were killed left in the store.

They leave objects without a manifest, and unfinished uploads.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from pgdrill.access import Access
from pgdrill.errors import CouldNotVerify
from pgdrill.logical.manifest import DUMP_ID, list_dumps

logger = logging.getLogger(__name__)


def take_back(access: Access, dump_id: str) -> None:
    """Remove what a failed dump has sent.

    If the store refuses even that, it is logged; without a manifest nobody sees it.
    """
    try:
        keys = access.dumps.sizes(f"{dump_id}/")
        access.dumps.delete(*keys)
    except CouldNotVerify as error:
        logger.warning(
            "objects of the failed dump %s stay until the next dump removes them: %s",
            dump_id,
            error,
        )


def clear(access: Access, *, keep: str) -> None:
    """Remove what killed dumps left, once no other host can still be writing it."""
    finished = {*list_dumps(access), keep}
    limit = datetime.now(UTC) - timedelta(seconds=access.cluster.dump.timeout_seconds)
    for name in sorted({found.split("/")[0] for found in access.dumps.sizes()}):
        if DUMP_ID.fullmatch(name) and name not in finished and started(name) < limit:
            logger.info("removing what a dump left that did not finish: %s", name)
            take_back(access, name)
    abort_uploads(access, limit)


def started(dump_id: str) -> datetime:
    """Return when a dump began, from its id."""
    return datetime.strptime(dump_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def abort_uploads(access: Access, before: datetime) -> int:
    """Abort multipart uploads that nobody will complete; return how many were aborted.

    A killed process cannot abort its own, and a bucket keeps their parts for ever.

    obstore cannot list them; boto3 can, and comes with Airflow. Without it a lifecycle rule of the
    bucket does the same.
    """
    place = urlsplit(access.dumps.url)
    if place.scheme != "s3":
        return 0
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        logger.info(
            "unfinished uploads are not looked for without boto3: give the bucket"
            " AbortIncompleteMultipartUpload"
        )
        return 0
    where, given = access.cluster.repository, access.environment
    client = boto3.client(
        "s3",
        endpoint_url=where.endpoint_url or None,
        region_name=where.region,
        aws_access_key_id=given.get("AWS_ACCESS_KEY_ID") or None,
        aws_session_token=given.get("AWS_SESSION_TOKEN") or None,
        aws_secret_access_key=given.get("AWS_SECRET_ACCESS_KEY") or None,
        config=Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2}),
    )
    bucket, prefix = place.netloc, f"{place.path.strip('/')}/"
    aborted = 0
    try:
        for page in client.get_paginator("list_multipart_uploads").paginate(
            Bucket=bucket, Prefix=prefix
        ):
            for upload in page.get("Uploads", []):
                if upload["Initiated"] < before and DUMP_ID.fullmatch(
                    upload["Key"].removeprefix(prefix).split("/")[0]
                ):
                    client.abort_multipart_upload(
                        Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    logger.info("aborted an unfinished upload of %s", upload["Key"])
                    aborted += 1
    except (BotoCoreError, ClientError) as error:
        if "NoSuchUpload" in str(error):  # some stores have no empty list of uploads
            return aborted
        logger.warning("unfinished uploads could not be looked for: %s", str(error)[:300])
    return aborted
