-- Sales: accounts, leads, deals and the agents that work them.

CREATE TABLE sales_territories (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  name text NOT NULL, country_code text NOT NULL REFERENCES countries, parent_id bigint REFERENCES sales_territories);
CREATE TABLE sales_reps (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  territory_id bigint NOT NULL REFERENCES sales_territories, user_id bigint REFERENCES users, full_name text NOT NULL, email email_address);
CREATE TABLE sales_quotas (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  rep_id bigint NOT NULL REFERENCES sales_reps, quarter_on date NOT NULL, target money_amount NOT NULL, reached percentage NOT NULL);
CREATE TABLE sales_accounts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  name text NOT NULL, industry text NOT NULL, website text, employees integer CHECK (employees > 0), rep_id bigint REFERENCES sales_reps,
  created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE sales_contacts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  account_id bigint NOT NULL REFERENCES sales_accounts ON DELETE CASCADE, full_name text NOT NULL, job_title text, email email_address,
  phone text, opted_out boolean NOT NULL DEFAULT false);
CREATE TABLE sales_campaigns (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  name text NOT NULL, channel text NOT NULL, budget money_amount NOT NULL, starts_on date NOT NULL, ends_on date,
  CHECK (ends_on > starts_on));
CREATE TABLE sales_leads (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  campaign_id bigint REFERENCES sales_campaigns, full_name text NOT NULL, email email_address, company text NOT NULL,
  score smallint NOT NULL CHECK (score BETWEEN 0 AND 100), status text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE sales_lead_sources (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  name text NOT NULL, channel text NOT NULL, cost_per_lead money_amount);
CREATE TABLE sales_lead_scores (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  lead_id bigint NOT NULL REFERENCES sales_leads ON DELETE CASCADE, model_id bigint NOT NULL REFERENCES models,
  score smallint NOT NULL, features jsonb NOT NULL, scored_at timestamptz NOT NULL);
CREATE TABLE sales_campaign_members (campaign_id bigint NOT NULL REFERENCES sales_campaigns ON DELETE CASCADE,
  contact_id bigint NOT NULL REFERENCES sales_contacts ON DELETE CASCADE, tenant_id uuid NOT NULL REFERENCES tenants,
  responded boolean NOT NULL, PRIMARY KEY (campaign_id, contact_id));
CREATE TABLE sales_pipelines (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  name text NOT NULL, currency_code text NOT NULL REFERENCES currencies);
CREATE TABLE sales_pipeline_stages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  pipeline_id bigint NOT NULL REFERENCES sales_pipelines ON DELETE CASCADE, stage deal_stage NOT NULL, position smallint NOT NULL,
  win_probability percentage NOT NULL);
CREATE TABLE sales_deals (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  account_id bigint NOT NULL REFERENCES sales_accounts, pipeline_id bigint NOT NULL REFERENCES sales_pipelines,
  rep_id bigint REFERENCES sales_reps, title text NOT NULL, stage deal_stage NOT NULL DEFAULT 'new', amount money_amount NOT NULL,
  win_probability percentage NOT NULL,
  weighted_amount numeric(16, 2) GENERATED ALWAYS AS (round(amount * win_probability / 100, 2)) STORED,
  close_on date NOT NULL, updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE sales_deal_history (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  deal_id bigint NOT NULL REFERENCES sales_deals ON DELETE CASCADE, old_stage deal_stage NOT NULL, new_stage deal_stage NOT NULL,
  changed_at timestamptz NOT NULL);
CREATE TABLE sales_deal_contacts (deal_id bigint NOT NULL REFERENCES sales_deals ON DELETE CASCADE,
  contact_id bigint NOT NULL REFERENCES sales_contacts ON DELETE CASCADE, tenant_id uuid NOT NULL REFERENCES tenants,
  relation text NOT NULL, PRIMARY KEY (deal_id, contact_id));
CREATE TABLE sales_competitors (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  name text NOT NULL, website text, strengths text);
CREATE TABLE sales_loss_reasons (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  deal_id bigint NOT NULL REFERENCES sales_deals, competitor_id bigint REFERENCES sales_competitors, reason text NOT NULL);
CREATE TABLE sales_products (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  sku_code text NOT NULL, name text NOT NULL, description text, active boolean NOT NULL, UNIQUE (tenant_id, sku_code));
CREATE TABLE sales_price_books (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  name text NOT NULL, currency_code text NOT NULL REFERENCES currencies, starts_on date NOT NULL);
CREATE TABLE sales_price_book_entries (price_book_id bigint NOT NULL REFERENCES sales_price_books ON DELETE CASCADE,
  product_id bigint NOT NULL REFERENCES sales_products, tenant_id uuid NOT NULL REFERENCES tenants, unit_price money_amount NOT NULL,
  PRIMARY KEY (price_book_id, product_id));
CREATE TABLE sales_quotes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  deal_id bigint NOT NULL REFERENCES sales_deals, quote_code text NOT NULL, valid_until_on date NOT NULL, status text NOT NULL);
CREATE TABLE sales_quote_lines (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  quote_id bigint NOT NULL REFERENCES sales_quotes ON DELETE CASCADE, product_id bigint NOT NULL REFERENCES sales_products,
  quantity integer NOT NULL CHECK (quantity > 0), unit_price money_amount NOT NULL, discount percentage NOT NULL DEFAULT 0);
CREATE TABLE sales_orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  quote_id bigint REFERENCES sales_quotes, account_id bigint NOT NULL REFERENCES sales_accounts, status text NOT NULL, ordered_at timestamptz NOT NULL);
CREATE TABLE sales_order_lines (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  order_id bigint NOT NULL REFERENCES sales_orders ON DELETE CASCADE, product_id bigint NOT NULL REFERENCES sales_products,
  quantity integer NOT NULL CHECK (quantity > 0), unit_price money_amount NOT NULL,
  amount numeric(16, 2) GENERATED ALWAYS AS (quantity * unit_price) STORED);
CREATE TABLE sales_invoices (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  order_id bigint NOT NULL REFERENCES sales_orders, number bigint NOT NULL UNIQUE DEFAULT nextval('invoice_number_seq'),
  net money_amount NOT NULL, tax_rate percentage NOT NULL, issued_on date NOT NULL, scan oid);
CREATE TABLE sales_invoice_payments (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  invoice_id bigint NOT NULL REFERENCES sales_invoices, amount money_amount NOT NULL, paid_on date NOT NULL);
CREATE TABLE sales_subscriptions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  account_id bigint NOT NULL REFERENCES sales_accounts, product_id bigint NOT NULL REFERENCES sales_products, active_during tstzrange NOT NULL,
  monthly_price money_amount NOT NULL);
CREATE TABLE sales_activities (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  deal_id bigint REFERENCES sales_deals, rep_id bigint NOT NULL REFERENCES sales_reps, channel text NOT NULL, notes text, happened_at timestamptz NOT NULL);
CREATE TABLE sales_meetings (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  deal_id bigint NOT NULL REFERENCES sales_deals, starts_at timestamptz NOT NULL, ends_at timestamptz NOT NULL, summary text,
  CHECK (ends_at > starts_at));
CREATE TABLE sales_emails (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  contact_id bigint NOT NULL REFERENCES sales_contacts, subject text NOT NULL, body text NOT NULL, opened boolean NOT NULL, sent_at timestamptz NOT NULL);
CREATE TABLE sales_email_sequences (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  name text NOT NULL, steps jsonb NOT NULL, enabled boolean NOT NULL);
CREATE TABLE sales_convos (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  lead_id bigint REFERENCES sales_leads, agent_id bigint NOT NULL REFERENCES agents, channel text NOT NULL, started_at timestamptz NOT NULL,
  ended_at timestamptz, CHECK (ended_at >= started_at));
CREATE TABLE sales_convo_turns (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  convo_id bigint NOT NULL REFERENCES sales_convos ON DELETE CASCADE, role message_role NOT NULL, body text NOT NULL, said_at timestamptz NOT NULL);
CREATE TABLE sales_convo_embed (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  convo_id bigint NOT NULL REFERENCES sales_convos ON DELETE CASCADE, content text NOT NULL, embedding vector(1536) NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE sales_playbooks (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  title text NOT NULL, content text NOT NULL, embedding vector(384) NOT NULL, updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE sales_worker_sessions (id uuid PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants, agent_id bigint NOT NULL REFERENCES agents,
  worker text NOT NULL, status text NOT NULL, heartbeats integer NOT NULL DEFAULT 0, last_seen_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE sales_worker_tasks (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  lead_id bigint REFERENCES sales_leads, task text NOT NULL, payload jsonb NOT NULL, attempts smallint NOT NULL, due_at timestamptz NOT NULL);
CREATE TABLE sales_forecasts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants,
  territory_id bigint NOT NULL REFERENCES sales_territories, month_on date NOT NULL, low money_amount NOT NULL, spread money_amount NOT NULL,
  high numeric(16, 2) GENERATED ALWAYS AS (low + spread) STORED);

COMMENT ON COLUMN sales_convo_embed.embedding IS
  'pgdrill: {"model": "hashing-1536", "version": "1", "text_column": "content", "updated_column": "updated_at"}';
COMMENT ON COLUMN sales_playbooks.embedding IS
  'pgdrill: {"model": "hashing-384", "version": "1", "text_column": "content", "updated_column": "updated_at"}';
