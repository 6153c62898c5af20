"""Runs one DAG by ``dag.test()`` in a process of its own and prints what became of it as the last
line, in JSON.

``python dag_run.py <dag id> <conf as JSON>``, with AIRFLOW_HOME and the like in the environment.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main(dag_id: str, conf: dict[str, Any]) -> dict[str, Any]:
    """Run it; states, XComs and rendered fields by task."""
    from airflow.configuration import conf as settings
    from airflow.dag_processing.dagbag import DagBag
    from airflow.models.asset import AssetEvent
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    bag = DagBag(settings.get("core", "dags_folder"))
    assert not bag.import_errors, bag.import_errors
    dag = bag.dags[dag_id]
    # dag.test() of Airflow 3.3.2 breaks after a run with a deadline (apache/airflow#73428)
    dag.deadline = None
    run = dag.test(run_conf=conf)
    with create_session() as session:
        xcoms = (
            session.query(XComModel)
            .filter(XComModel.dag_id == dag_id, XComModel.run_id == run.run_id)
            .all()
        )
        fields = (
            session.query(RenderedTaskInstanceFields)
            .filter_by(dag_id=dag_id, run_id=run.run_id)
            .all()
        )
        events = session.query(AssetEvent).filter_by(source_dag_id=dag_id, source_run_id=run.run_id)
        # now: get_task_instances() ends the session
        assets = {event.asset.name: event.extra for event in events}
        return {
            "run_id": run.run_id,
            "state": str(run.state),
            "tasks": {ti.task_id: ti.state and str(ti.state) for ti in run.get_task_instances()},
            "tries": {ti.task_id: ti.try_number for ti in run.get_task_instances()},
            "xcom": {
                one.task_id: XComModel.deserialize_value(one)
                for one in xcoms
                if one.key == "return_value"
            },
            "assets": assets,
            "rendered": {one.task_id: one.rendered_fields for one in fields},
        }


if __name__ == "__main__":
    result = main(sys.argv[1], json.loads(sys.argv[2]))
    print(json.dumps(result, default=str))
