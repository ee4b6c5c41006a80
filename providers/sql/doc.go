// Package sql is a storage provider on a SQL database: PostgreSQL through pgx v5, or
// SQLite through any driver of database/sql. (It has nothing to do with identity
// providers.)
//
// The application opens the database and keeps it. It makes the tables once, by
// name, and then providers on them:
//
//	pool, err := pgxpool.New(ctx, url)
//	…
//	db := sqlprovider.Postgres(pool, nil)
//	err = db.Migrate(ctx) // or apply what db.Schema returns
//	…
//	p, err := sqlprovider.New(ctx, db)
//
// # What is stored
//
// Four tables, whose names begin with Options.Prefix:
//
//	coatcheck_records  a row for each partition: version, expiry and the sealed tokens
//	coatcheck_owners   a row for each owner: the removal mark
//	coatcheck_leases   a row for each lease: its holder and expiry
//	coatcheck_schema   one row: the version of the schema
//
// Owner and partition are keyed hashes, and what is stored is sealed by the Cache.
// Whether something is over is decided by the database's clock, so that machines
// need not agree; Load tells what is left by the clock of its machine.
//
// # Sweeping
//
// What is over is nothing to anybody, but its row stays until [Provider.Sweep]
// removes it. Call that every few minutes, on one machine or on all of them:
//
//	for range time.Tick(5 * time.Minute) {
//		_, err := p.Sweep(ctx)
//	}
//
// # Versions of the schema
//
// A program works with the schema of its version, and with later ones that say so.
// So upgrade the tables first and then the machines, one after the other. [New]
// changes nothing, and refuses a schema that it cannot work with.
//
// # PostgreSQL
//
// Version 14 or newer; it is tested with 15. A load, a save and every other call is
// one statement in one round trip, and each an index lookup.
//
//   - The user needs SELECT, INSERT, UPDATE and DELETE on the tables, and SELECT on
//     that of the schema; only Migrate needs more.
//   - Deadlines are the caller's: a call ends with its context, also one that waits
//     for a connection of the pool. (A Cache sets 250 ms.) pgx closes the connection
//     of a call that was cut short.
//   - synchronous_commit is to be on, as it is by default. Without it, a crash of the
//     server loses the last refresh tokens, of which the server of tokens has already
//     forgotten the former ones. After a failover to an asynchronous standby it is
//     the same; what machines remember of their saves, they put back. For half a
//     second after a server was found to have been started anew, no lease is
//     granted, so that they get to it.
//   - The connection must lead to the primary: with several hosts, set
//     target_session_attrs=read-write. After a failover the pool is emptied at once.
//   - Behind PgBouncer, in its transaction mode, use QueryExecModeExec or
//     QueryExecModeSimpleProtocol, unless it keeps prepared statements
//     (max_prepared_statements).
//   - Watch asks for changes four times a second, on a connection of the pool for
//     as long as that takes. [Options].Listen has it hear of them at once, at a price.
//   - A save changes three indexes, and rows that were replaced stay until autovacuum
//     removes them: its defaults will do.
//
// [Provider.Names] goes through the primary key, for [tokencache.Migrate].
//
// # The end
//
// Close the Cache first, then the provider, then the pool.
package sql
