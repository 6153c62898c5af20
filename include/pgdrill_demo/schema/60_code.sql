-- Functions, triggers and the materialized view; after the data, so that loading fires nothing.

CREATE FUNCTION app_tenant() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
  RETURN nullif(current_setting('app.tenant_id', true), '')::uuid;
COMMENT ON FUNCTION app_tenant() IS 'The tenant of this transaction, or null: null sees nothing.';

CREATE FUNCTION nearest_embeddings(probe vector, wanted integer DEFAULT 10)
  RETURNS TABLE (id bigint, content text, distance double precision) LANGUAGE sql STABLE
  SET search_path = public, pg_catalog
  AS 'SELECT e.id, e.content, e.embedding <=> probe FROM embeddings e ORDER BY e.embedding <=> probe LIMIT wanted';

CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := now();
  RETURN NEW;
END
$$;

CREATE FUNCTION write_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_catalog AS $$
BEGIN
  INSERT INTO audit_log (tenant_id, actor, action, relation, row_key)
    VALUES (OLD.tenant_id, session_user, TG_OP, TG_TABLE_NAME, OLD.id::text);
  RETURN NULL;
END
$$;

CREATE TRIGGER hc_agent_state_touch BEFORE UPDATE ON hc_agent_state FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER embeddings_touch BEFORE UPDATE ON embeddings FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER re_plans_touch BEFORE UPDATE ON re_plans FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER hc_patients_audit AFTER UPDATE OR DELETE ON hc_patients FOR EACH ROW EXECUTE FUNCTION write_audit();
CREATE TRIGGER embeddings_audit AFTER DELETE ON embeddings FOR EACH ROW EXECUTE FUNCTION write_audit();

CREATE VIEW open_deals AS
  SELECT d.id, d.tenant_id, a.name AS account, d.title, d.stage, d.weighted_amount
  FROM public.sales_deals d JOIN public.sales_accounts a ON a.id = d.account_id
  WHERE d.stage NOT IN ('won', 'lost');

-- Over tables whose row security is not forced: a refresh runs as the owner, who would otherwise see no rows.
CREATE MATERIALIZED VIEW sales_pipeline_summary AS
  SELECT d.tenant_id, d.pipeline_id, d.stage, count(*) AS deals, sum(d.amount) AS amount, sum(d.weighted_amount) AS weighted_amount
  FROM public.sales_deals d GROUP BY d.tenant_id, d.pipeline_id, d.stage;
CREATE UNIQUE INDEX sales_pipeline_summary_key ON sales_pipeline_summary (tenant_id, pipeline_id, stage);
