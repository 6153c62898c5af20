"""Draws no DAG: it has an import error while something is wrong with `dr.toml`, whose first words
say what, and the hint.

A cluster that is wrong has no DAGs until it is mended, and costs no other cluster its own. Jobs
that have begun go on with the configuration that they began with.
"""

from __future__ import annotations

from pgdrill.airflow.dags import check_configuration

check_configuration()
