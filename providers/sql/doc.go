// Package sql is a storage provider on a SQL database: PostgreSQL through pgx v5, or
// SQLite through any driver of database/sql. (It has nothing to do with identity
// providers.)
package sql
