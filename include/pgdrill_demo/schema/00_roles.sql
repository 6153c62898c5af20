-- Roles belong to the whole server, so another database may have made them already. None has a password.

DO $$
DECLARE
  wanted record;
BEGIN
  FOR wanted IN SELECT * FROM (VALUES
      ('agents_owner', 'NOLOGIN'), ('agents_app', 'NOLOGIN'), ('agents_readonly', 'NOLOGIN'),
      ('agents_auditor', 'NOLOGIN BYPASSRLS'), ('agents_service', 'LOGIN CONNECTION LIMIT 50')) AS r (name, attributes) LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name) THEN
      EXECUTE format('CREATE ROLE %I %s', wanted.name, wanted.attributes);
    END IF;
  END LOOP;
END
$$;

GRANT agents_app TO agents_service;
GRANT agents_readonly TO agents_auditor;
ALTER ROLE agents_readonly SET statement_timeout = '30s';
