-- The names say what is searched. 3,072 dimensions are past what HNSW takes as vector, hence the halfvec cast.

CREATE INDEX embeddings_hnsw_idx ON embeddings USING hnsw (embedding vector_cosine_ops);
CREATE INDEX hc_embeddings_hnsw_idx ON hc_embeddings USING hnsw ((embedding::halfvec(3072)) halfvec_cosine_ops);
CREATE INDEX re_listings_embed_hnsw_idx ON re_listings_embed USING hnsw (embedding vector_cosine_ops);
CREATE INDEX sales_convo_embed_hnsw_idx ON sales_convo_embed USING hnsw (embedding vector_cosine_ops) WITH (m = 12, ef_construction = 80);
CREATE INDEX sales_playbooks_ivfflat_idx ON sales_playbooks USING ivfflat (embedding vector_cosine_ops) WITH (lists = 2);
