# syntax=docker/dockerfile:1
# The official Airflow image, with pgdrill, the PostgreSQL programs of the protected cluster's major version, pgvector,
# and wal-g. Build: docker compose build. No secret goes in: they come at run time, from the environment.
#
# First form: checked for structure only (tests/unit/test_compose.py), not yet built by an engine.
ARG AIRFLOW_VERSION=3.3.2
FROM apache/airflow:${AIRFLOW_VERSION}-python3.11

ARG AIRFLOW_VERSION
# A physical backup starts only under the major version that made it.
ARG POSTGRES_MAJOR=18

USER root
SHELL ["/bin/bash", "-o", "pipefail", "-e", "-u", "-x", "-c"]

# Debian's postgresql-common knows PostgreSQL's own package repository (PGDG) and carries its key. A source that the
# base image wrote for the same repository would clash with it ("conflicting values set for option Signed-By").
# No cluster is made at install: this image restores clusters, it does not hold one.
RUN grep -rl pgdg /etc/apt/sources.list.d | xargs -r rm --force; \
    apt-get update; \
    apt-get install --yes --no-install-recommends postgresql-common; \
    sed -ri 's/#(create_main_cluster) .*$/\1 = false/' /etc/postgresql-common/createcluster.conf; \
    /usr/share/postgresql-common/pgdg/*.sh -y; \
    apt-get install --yes --no-install-recommends \
        "postgresql-${POSTGRES_MAJOR}" "postgresql-client-${POSTGRES_MAJOR}" "postgresql-${POSTGRES_MAJOR}-pgvector" \
        redis-server redis-tools; \
    rm -rf /var/lib/apt/lists/*; \
    "/usr/lib/postgresql/${POSTGRES_MAJOR}/bin/postgres" --version

# Drills restore in the first; in the second stands what running jobs began with. Group 0 may write, as everywhere in
# Airflow's image: the container runs as the owner of the protected data directory (docker-compose.yaml), whose number
# this image cannot know.
RUN install --directory --mode=0775 --group=0 /var/lib/pgdrill /opt/airflow/pgdrill

ENV PATH="/usr/lib/postgresql/${POSTGRES_MAJOR}/bin:/opt/pgdrill/bin:${PATH}"

COPY --chown=airflow:0 constraints.txt pyproject.toml README.md LICENSE /opt/pgdrill/
COPY --chown=airflow:0 include/ /opt/pgdrill/include/
RUN install --directory --owner=airflow --group=0 /opt/pgdrill /opt/pgdrill/bin

USER airflow

# Airflow's own version is named again, so that no dependency can move it. requirements.txt is for development and the
# demo; the image takes the package with what it declares, at the versions that were tested together, and the login
# manager of docker-compose.yaml with them, so that a conflict between the two stops the build.
RUN pip install --no-cache-dir --constraint /opt/pgdrill/constraints.txt \
        "apache-airflow==${AIRFLOW_VERSION}" "/opt/pgdrill[airflow]" apache-airflow-providers-fab; \
    python -m pgdrill.repository.tools.install_walg --into /opt/pgdrill/bin --required; \
    wal-g --version

COPY --chown=airflow:0 dags/ /opt/airflow/dags/
COPY --chown=airflow:0 plugins/ /opt/airflow/plugins/
COPY --chown=airflow:0 include/dr.toml /opt/airflow/include/dr.toml
