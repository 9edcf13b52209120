"""PostgreSQL: started if need be, migrated, written exactly once, read. The only room that knows asyncpg and SQL."""
