"""``pgdrill label``: which model made a vector column, written into its comment on production, or
listed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgdrill.cli.app import Exit, JsonOption, command, out, say, session_of

if TYPE_CHECKING:
    from pgdrill.access import Access
    from pgdrill.vectors.labels import Label


@command
def label(
    context: typer.Context,
    cluster: Annotated[
        str,
        typer.Argument(metavar="CLUSTER", help="may be left out to list the only one's columns"),
    ] = "",
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help="schema.table where it is not in public")
    ] = "",
    column: Annotated[str, typer.Argument(metavar="COLUMN", help="of type vector or halfvec")] = "",
    model: Annotated[
        str, typer.Option(metavar="NAME", help="the model that made the vectors")
    ] = "",
    model_version: Annotated[
        str, typer.Option(metavar="VERSION", help="its version, as your application counts them")
    ] = "",
    text_column: Annotated[
        str, typer.Option(metavar="COLUMN", help="whose text the vectors are made from")
    ] = "",
    updated_column: Annotated[
        str, typer.Option(metavar="COLUMN", help="when the text was changed last")
    ] = "",
    embedded_column: Annotated[
        str, typer.Option(metavar="COLUMN", help="when the vector was made")
    ] = "",
    sql: Annotated[
        bool,
        typer.Option("--sql", help="print the statement instead, for the table's owner to run"),
    ] = False,
    database: Annotated[
        str, typer.Option(metavar="NAME", help="default: the first of server.databases")
    ] = "",
    as_json: JsonOption = False,
) -> int:
    """Say on production which model made a column's vectors; without TABLE, list every vector
    column with its label.
    """
    wanted = {
        "model": model,
        "version": model_version,
        "text_column": text_column,
        "updated_column": updated_column,
        "embedded_column": embedded_column,
    }
    if bool(table) != bool(column) or (table and not (model and model_version)):
        raise typer.BadParameter(
            "to write a label, give CLUSTER TABLE COLUMN, --model and --model-version"
        )
    if not table and (sql or any(wanted.values())):
        raise typer.BadParameter("to write a label, name TABLE and COLUMN")
    access = session_of(context).access(cluster)
    if not table:
        return _list(access, database, as_json)
    if sql:
        return _print(access, database, table, column, _label(wanted))
    return _write(access, database, table, column, _label(wanted), as_json)


def _label(wanted: dict[str, str]) -> Label:
    from pydantic import ValidationError

    from pgdrill.vectors.labels import Label

    try:
        return Label.model_validate({key: value for key, value in wanted.items() if value})
    except ValidationError as error:
        raise typer.BadParameter("--model-version must not hold @") from error


def _print(access: Access, database: str, table: str, column: str, label: Label) -> int:
    from pgdrill.vectors.labels import label_statement

    with access.briefly(database or None) as connection:
        say(f"{label_statement(connection, table, column, label)};")
    return Exit.GOOD


def _write(
    access: Access, database: str, table: str, column: str, label: Label, as_json: bool
) -> int:
    from pgdrill.vectors.labels import set_label

    with access.briefly(database or None) as connection:
        set_label(connection, table, column, label)
    if as_json:
        say(json.dumps({"table": table, "column": column, **label.model_dump()}, indent=1))
    else:
        say(
            f"{table}.{column} is labelled {label}. Backups taken from now on bring the label"
            " along."
        )
    return Exit.GOOD


def _list(access: Access, database: str, as_json: bool) -> int:
    from pgdrill.reports.listing import grid

    found = [line for name in _databases(access, database) for line in _lines(access, name)]
    if as_json:
        say(json.dumps(found, indent=1))
    elif found:
        rows = [
            tuple(
                line[key] or ""
                for key in ("database", "column", "label", "text_column", "updated_column")
            )
            for line in found
        ]
        out().print(grid(("database", "vector column", "label", "text", "updated"), rows))
    else:
        say(f"No vector column in cluster {access.cluster.name}.")
    return Exit.GOOD


def _databases(access: Access, database: str) -> tuple[str, ...]:
    from pgdrill.baseline import filled_databases

    if database or access.cluster.server.databases:
        return (database,) if database else access.cluster.server.databases
    with access.briefly() as connection:
        return filled_databases(connection)


def _lines(access: Access, database: str) -> list[dict[str, Any]]:
    from pgdrill.vectors.labels import LabelError, parse_label, read_comments

    lines = []
    with access.briefly(database) as connection:
        for (schema, table, column), comment in read_comments(connection).items():
            try:
                label = parse_label(comment)
                shown = str(label) if label else "none"
            except LabelError as error:
                label, shown = None, f"unreadable: {error}"
            lines.append(
                {
                    "database": database,
                    "column": f"{schema}.{table}.{column}",
                    "label": shown,
                    "text_column": label.text_column if label else None,
                    "updated_column": label.updated_column if label else None,
                    "embedded_column": label.embedded_column if label else None,
                }
            )
    return lines
