-- A restore of an empty or half-filled database starts and answers as well as a whole one.
-- One number is compared: `= N`, `!= N`, `< N`, `<= N`, `> N`, `>= N` or `between A and B`.
-- name: tenants-have-agents
-- database: agents
-- expect: >= 3
-- hint: the tenants' agents are missing: look for the table `agents` among the failed checks
SELECT count(DISTINCT tenant_id) FROM agents
