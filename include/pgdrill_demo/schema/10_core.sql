-- The shared core: tenants, agents and what they call, say and remember.
-- Names are qualified by search_path only; bodies of functions and views qualify themselves, for pg_restore empties it.

CREATE EXTENSION vector;
CREATE EXTENSION pg_trgm;

CREATE TYPE vertical AS ENUM ('healthcare', 'real_estate', 'sales');
CREATE TYPE call_status AS ENUM ('queued', 'running', 'succeeded', 'failed', 'cancelled');
CREATE TYPE message_role AS ENUM ('system', 'user', 'assistant', 'tool');
CREATE TYPE priority AS ENUM ('low', 'normal', 'high', 'urgent');
CREATE TYPE deal_stage AS ENUM ('new', 'qualified', 'proposal', 'negotiation', 'won', 'lost');
CREATE TYPE listing_status AS ENUM ('draft', 'active', 'under_offer', 'sold', 'withdrawn');
CREATE TYPE claim_status AS ENUM ('received', 'in_review', 'approved', 'denied', 'paid');
CREATE DOMAIN email_address AS text CHECK (VALUE ~ '^[^@\s]+@[^@\s]+$');
CREATE DOMAIN money_amount AS numeric(14, 2) CHECK (VALUE >= 0);
CREATE DOMAIN percentage AS numeric(5, 2) CHECK (VALUE BETWEEN 0 AND 100);
CREATE SEQUENCE invoice_number_seq START 100000;
CREATE SEQUENCE claim_number_seq START 500000 INCREMENT 7;

CREATE TABLE currencies (code text PRIMARY KEY CHECK (length(code) = 3), name text NOT NULL);
CREATE TABLE countries (code text PRIMARY KEY CHECK (length(code) = 2), name text NOT NULL);
CREATE TABLE languages (code text PRIMARY KEY, name text NOT NULL);
CREATE TABLE subscription_plans (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL,
  currency_code text NOT NULL REFERENCES currencies, monthly_price money_amount NOT NULL, seats integer NOT NULL CHECK (seats > 0));
CREATE TABLE models (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE,
  provider text NOT NULL, context_tokens integer NOT NULL, released_on date NOT NULL);
CREATE TABLE feature_flags (code text PRIMARY KEY, description text NOT NULL, enabled boolean NOT NULL DEFAULT false);
CREATE TABLE tools (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE,
  description text NOT NULL, parameters jsonb NOT NULL DEFAULT '{}', enabled boolean NOT NULL DEFAULT true);

CREATE TABLE tenants (id uuid PRIMARY KEY, slug text NOT NULL UNIQUE, name text NOT NULL, vertical vertical NOT NULL,
  country_code text NOT NULL REFERENCES countries, plan_id bigint NOT NULL REFERENCES subscription_plans,
  created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  first_name text NOT NULL, last_name text NOT NULL,
  full_name text GENERATED ALWAYS AS (first_name || ' ' || last_name) STORED,
  email email_address NOT NULL UNIQUE, language_code text REFERENCES languages, last_seen_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE teams (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  name text NOT NULL, parent_id bigint REFERENCES teams, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE team_members (team_id bigint NOT NULL REFERENCES teams ON DELETE CASCADE,
  user_id bigint NOT NULL REFERENCES users ON DELETE CASCADE, tenant_id uuid NOT NULL REFERENCES tenants,
  joined_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (team_id, user_id));
CREATE TABLE api_keys (id uuid PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants, user_id bigint NOT NULL REFERENCES users,
  key_hash bytea NOT NULL, last_used_from inet, expires_at timestamptz, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE agents (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  name text NOT NULL, model_id bigint NOT NULL REFERENCES models, owner_id bigint REFERENCES users,
  instructions text NOT NULL, temperature double precision NOT NULL DEFAULT 0.2 CHECK (temperature BETWEEN 0 AND 2),
  settings jsonb NOT NULL DEFAULT '{}', created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE agent_versions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  agent_id bigint NOT NULL REFERENCES agents ON DELETE CASCADE, version integer NOT NULL, instructions text NOT NULL,
  published_at timestamptz);
CREATE TABLE agent_tools (agent_id bigint NOT NULL REFERENCES agents ON DELETE CASCADE, tool_id bigint NOT NULL REFERENCES tools,
  tenant_id uuid NOT NULL REFERENCES tenants, daily_limit integer CHECK (daily_limit >= 0), PRIMARY KEY (agent_id, tool_id));
CREATE TABLE agent_schedules (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  agent_id bigint NOT NULL REFERENCES agents ON DELETE CASCADE, cron text NOT NULL, enabled boolean NOT NULL, next_run_at timestamptz);
CREATE TABLE prompts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  code text NOT NULL, body text NOT NULL, language_code text REFERENCES languages, updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (tenant_id, code));
CREATE TABLE conversations (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  agent_id bigint NOT NULL REFERENCES agents, user_id bigint REFERENCES users, subject text NOT NULL,
  priority priority NOT NULL DEFAULT 'normal', created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE calls (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  agent_id bigint NOT NULL REFERENCES agents, tool_id bigint NOT NULL REFERENCES tools,
  conversation_id bigint REFERENCES conversations, status call_status NOT NULL DEFAULT 'queued',
  arguments jsonb NOT NULL DEFAULT '{}', tokens_in integer NOT NULL CHECK (tokens_in >= 0),
  tokens_out integer NOT NULL CHECK (tokens_out >= 0),
  tokens_total integer GENERATED ALWAYS AS (tokens_in + tokens_out) STORED,
  started_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz, CHECK (ended_at >= started_at));
CREATE TABLE messages (id bigint GENERATED BY DEFAULT AS IDENTITY, tenant_id uuid NOT NULL REFERENCES tenants,
  conversation_id bigint NOT NULL REFERENCES conversations, role message_role NOT NULL, body text NOT NULL,
  body_length integer GENERATED ALWAYS AS (length(body)) STORED,
  created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at);
CREATE TABLE messages_2026_q1 PARTITION OF messages FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2026-04-01 00:00+00');
CREATE TABLE messages_2026_q2 PARTITION OF messages FOR VALUES FROM ('2026-04-01 00:00+00') TO ('2026-07-01 00:00+00');
CREATE TABLE messages_2026_07 PARTITION OF messages FOR VALUES FROM ('2026-07-01 00:00+00') TO ('2026-08-01 00:00+00');
CREATE TABLE messages_2026_08 PARTITION OF messages FOR VALUES FROM ('2026-08-01 00:00+00') TO ('2026-09-01 00:00+00');
CREATE TABLE messages_2026_09 PARTITION OF messages FOR VALUES FROM ('2026-09-01 00:00+00') TO ('2026-10-01 00:00+00');
CREATE TABLE messages_default PARTITION OF messages DEFAULT;
CREATE TABLE message_feedback (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  conversation_id bigint NOT NULL REFERENCES conversations ON DELETE CASCADE, user_id bigint NOT NULL REFERENCES users,
  rating smallint NOT NULL CHECK (rating BETWEEN 1 AND 5), comment text, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE documents (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  title text NOT NULL, body text NOT NULL,
  body_search tsvector GENERATED ALWAYS AS (to_tsvector('pg_catalog.english', title || ' ' || body)) STORED,
  tags text[] NOT NULL DEFAULT '{}', uploaded_by bigint REFERENCES users, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE embeddings (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  document_id bigint REFERENCES documents ON DELETE CASCADE, content text NOT NULL, embedding vector(384) NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE memories (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  agent_id bigint NOT NULL REFERENCES agents ON DELETE CASCADE, key text NOT NULL, value jsonb NOT NULL,
  valid_during tstzrange NOT NULL, updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE webhooks (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  url text NOT NULL CHECK (url LIKE 'https://%'), events text[] NOT NULL, enabled boolean NOT NULL DEFAULT true);
CREATE TABLE webhook_deliveries (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  webhook_id bigint NOT NULL REFERENCES webhooks ON DELETE CASCADE, payload jsonb NOT NULL, attempts smallint NOT NULL DEFAULT 0,
  delivered_at timestamptz);
CREATE TABLE usage_daily (tenant_id uuid NOT NULL REFERENCES tenants, day date NOT NULL, model_id bigint NOT NULL REFERENCES models,
  tokens_in bigint NOT NULL, tokens_out bigint NOT NULL, PRIMARY KEY (tenant_id, day, model_id));
CREATE TABLE billing_invoices (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  number bigint NOT NULL UNIQUE DEFAULT nextval('invoice_number_seq'), currency_code text NOT NULL REFERENCES currencies,
  net money_amount NOT NULL, tax_rate percentage NOT NULL,
  gross numeric(16, 2) GENERATED ALWAYS AS (round(net * (1 + tax_rate / 100), 2)) STORED, issued_on date NOT NULL, paid_on date);
CREATE TABLE audit_log (tenant_id uuid NOT NULL REFERENCES tenants, actor text NOT NULL, action text NOT NULL, relation text NOT NULL,
  row_key text NOT NULL, happened_at timestamptz NOT NULL DEFAULT now());

COMMENT ON TABLE audit_log IS 'Append-only and without a primary key, as such tables are.';
COMMENT ON COLUMN embeddings.embedding IS
  'pgdrill: {"model": "hashing-384", "version": "1", "text_column": "content", "updated_column": "updated_at"}';
