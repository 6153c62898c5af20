-- A vector that moved to another tenant would be found by that tenant's searches.
-- name: vectors-of-their-tenant
-- database: agents
-- expect: no rows
-- severity: fail
-- timeout: 30 s
-- hint: compare tenant_id of the vectors and of their documents on production; row level security hides none of them here
SELECT e.id
FROM embeddings e
JOIN documents d ON d.id = e.document_id
WHERE d.tenant_id <> e.tenant_id
