-- Owner, row security by tenant, and grants. Last, so that the load itself is not in its way.

DO $$
DECLARE
  relation record;
BEGIN
  FOR relation IN
    SELECT c.relname, c.relkind, c.relispartition,
      EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id') AS has_tenant
    FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT EXISTS (
      SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY c.relname COLLATE "C"
  LOOP
    EXECUTE format('ALTER TABLE public.%I OWNER TO agents_owner', relation.relname);
    CONTINUE WHEN NOT relation.has_tenant OR relation.relkind NOT IN ('r', 'p');
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', relation.relname);
    EXECUTE format(
      'CREATE POLICY tenant_isolation ON public.%I'
      ' USING (tenant_id = nullif(current_setting(''app.tenant_id'', true), '''')::uuid)'
      ' WITH CHECK (tenant_id = nullif(current_setting(''app.tenant_id'', true), '''')::uuid)', relation.relname);
    IF relation.relname LIKE 'hc\_%' THEN
      EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', relation.relname);
    END IF;
    IF NOT relation.relispartition THEN
      EXECUTE format('CREATE INDEX ON public.%I (tenant_id)', relation.relname);
    END IF;
  END LOOP;
END
$$;

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant_itself ON tenants FOR SELECT USING (id = public.app_tenant());
-- Two permissive policies add up: an auditor reads every invoice, and nobody else does.
CREATE POLICY auditor_reads ON billing_invoices FOR SELECT TO agents_auditor USING (true);

ALTER FUNCTION app_tenant() OWNER TO agents_owner;
ALTER FUNCTION nearest_embeddings(vector, integer) OWNER TO agents_owner;
ALTER FUNCTION touch_updated_at() OWNER TO agents_owner;
ALTER FUNCTION write_audit() OWNER TO agents_owner;
ALTER SEQUENCE invoice_number_seq OWNER TO agents_owner;
ALTER SEQUENCE claim_number_seq OWNER TO agents_owner;
-- The view must not lend its owner's eyes: without this it would show every tenant's deals.
ALTER VIEW open_deals SET (security_invoker = true);

GRANT USAGE ON SCHEMA public TO agents_app, agents_readonly;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO agents_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO agents_app;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO agents_readonly;
-- Row security knows nothing of materialized views, nor of partitions reached by their own name through a grant.
REVOKE ALL ON sales_pipeline_summary FROM agents_app, agents_readonly;
GRANT SELECT ON sales_pipeline_summary TO agents_auditor;
REVOKE UPDATE, DELETE ON audit_log FROM agents_app;
REVOKE ALL ON hc_patients FROM agents_readonly;
GRANT SELECT (id, tenant_id, clinic_id, created_at) ON hc_patients TO agents_readonly;
REVOKE EXECUTE ON FUNCTION write_audit() FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE agents_owner IN SCHEMA public GRANT SELECT ON TABLES TO agents_readonly;
