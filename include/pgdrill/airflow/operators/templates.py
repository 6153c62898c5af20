"""Templates of the operators: what is text stays text, lists and ticks come as themselves.

A DAG that renders native objects would make a number of a plan's digest, or of a restore point
named ``1e5``; one that does not would make the text ``"False"``, which is true, of an empty tick.
Here the operator says which field is what, and both kinds of DAG get the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from pgdrill.errors import ConfigError

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context


class TypedTemplates(BaseOperator):
    """Renders the fields of ``native_fields`` as objects, and every other one as text."""

    native_fields: ClassVar[frozenset[str]] = frozenset()

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        """Render each field as what it is, whatever the DAG renders: text, or an object.

        Airflow calls this for mapped tasks, too, and leaves it to operators to change.
        """
        whole = self.render_template_as_native_obj
        for name in template_fields:
            # of a list that is written out, each item is a name
            native = name in self.native_fields and isinstance(getattr(parent, name, None), str)
            self.render_template_as_native_obj = native
            environment = self.get_template_env()
            super()._do_render_template_fields(parent, (name,), context, environment, seen_oids)
        self.render_template_as_native_obj = whole


def names_of(given: Any, what: str) -> tuple[str, ...]:
    """Return a field's list of names.

    :param what: the field's name, for the error.
    :raises ConfigError: if it is no list of texts, as where a template joins one.
    """
    names = given if given is not None else ()
    if not isinstance(names, list | tuple | set) or not all(isinstance(it, str) for it in names):
        raise _not(what, given, "a list of names", f"{{{{ params.{what} }}}}")
    return tuple(name.strip() for name in names if name.strip())


def yes_or_no(given: Any, what: str) -> bool:
    """Return a field's answer; nothing is no.

    :param what: the field's name, for the error.
    :raises ConfigError: if it is something else: a text is not taken, for ``"False"`` would be yes.
    """
    if given is not None and not isinstance(given, bool):
        raise _not(what, given, "true or false", f"{{{{ params.{what} }}}}")
    return bool(given)


def _not(what: str, found: Any, expected: str, template: str) -> ConfigError:
    return ConfigError(
        "bad-field",
        f"operator's {what}",
        found=repr(found),
        expected=expected,
        hint=f"hand it on as it is, in a template by {template} alone",
    )
