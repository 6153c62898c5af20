-- Every access method a restored cluster must prove: btree, hash, GIN, GiST, BRIN. Vector indexes are in 55_vector_indexes.sql.
-- Made after the data, as pg_restore does.

CREATE INDEX messages_conversation_idx ON messages (conversation_id, created_at);
CREATE INDEX messages_body_trgm_idx ON messages USING gin (body gin_trgm_ops);
CREATE INDEX calls_agent_started_idx ON calls (agent_id, started_at DESC);
CREATE INDEX calls_unfinished_idx ON calls (started_at) WHERE status IN ('queued', 'running');
CREATE INDEX calls_arguments_idx ON calls USING gin (arguments jsonb_path_ops);
CREATE INDEX documents_search_idx ON documents USING gin (body_search);
CREATE INDEX documents_tags_idx ON documents USING gin (tags);
CREATE INDEX embeddings_content_trgm_idx ON embeddings USING gin (content gin_trgm_ops);
CREATE INDEX api_keys_hash_idx ON api_keys USING hash (key_hash);
CREATE INDEX memories_valid_idx ON memories USING gist (valid_during);
CREATE INDEX audit_log_happened_idx ON audit_log USING brin (happened_at);
CREATE INDEX users_lower_email_idx ON users (lower(email));

CREATE INDEX hc_patients_name_trgm_idx ON hc_patients USING gin (last_name gin_trgm_ops);
CREATE INDEX hc_vitals_patient_idx ON hc_vitals (patient_id, taken_at DESC) INCLUDE (pulse);
CREATE INDEX hc_vitals_taken_idx ON hc_vitals USING brin (taken_at);
CREATE INDEX hc_admissions_stay_idx ON hc_admissions USING gist (stayed_during);
CREATE INDEX hc_agent_state_step_idx ON hc_agent_state (tenant_id, step);

CREATE INDEX re_listings_title_trgm_idx ON re_listings USING gin (title gin_trgm_ops);
CREATE INDEX re_listings_open_idx ON re_listings (asking_price) WHERE status = 'active';
CREATE INDEX re_leases_period_idx ON re_leases USING gist (leased_during);

CREATE INDEX sales_leads_score_idx ON sales_leads (tenant_id, score DESC);
CREATE INDEX sales_accounts_name_trgm_idx ON sales_accounts USING gin (name gin_trgm_ops);
CREATE INDEX sales_worker_sessions_seen_idx ON sales_worker_sessions (last_seen_at);
CREATE INDEX sales_contacts_email_idx ON sales_contacts USING hash (email);
