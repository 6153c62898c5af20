-- The application's own kind of question, through its GIN index. `rows`: at least one.
-- A warning only (`severity: warn`): it turns up, too, on the day on which no document says so any more.
-- name: text-search-answers
-- database: agents
-- expect: rows
-- severity: warn
-- timeout: 10 s
SELECT id FROM documents WHERE body_search @@ plainto_tsquery('pg_catalog.english', 'follow') LIMIT 1
