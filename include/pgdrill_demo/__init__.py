"""The demo: sample data, a writer and the stack they run on. Nothing in pgdrill imports it."""
