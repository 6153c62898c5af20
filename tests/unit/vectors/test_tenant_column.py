"""Which column of a policy tells the tenant: the one that is compared with a setting, in
PostgreSQL's own wording.
"""

from __future__ import annotations

import pytest

from pgdrill.vectors.columns import _is_tenant


@pytest.mark.parametrize(
    "qual",
    [
        "(tenant_id = current_setting('app.tenant'::text, true))",
        "((tenant_id = current_setting('app.tenant'::text, true)) AND (NOT deleted))",
        "((NOT deleted) AND ((tenant_id)::text = current_setting('app.tenant'::text)))",
        "((deleted = false) AND (tenant_id = (current_setting('app.tenant'::text, true))::uuid))",
        "(tenant_id = (NULLIF(current_setting('app.tenant'::text, true), ''::text))::uuid)",
        "(current_setting('app.tenant'::text, true) = tenant_id)",
    ],
)
def test_the_tenant_is_what_a_setting_is_compared_with(qual: str) -> None:
    assert _is_tenant("tenant_id", qual)
    assert not _is_tenant("deleted", qual)
    assert not _is_tenant("id", qual)


def test_a_name_that_is_quoted_is_the_same_name() -> None:
    assert _is_tenant("Tenant", "(\"Tenant\" = current_setting('app.tenant'::text, true))")
