"""PostgreSQL from outside: binaries, a local server's life, WAL names, connections."""
