// Package redis is a storage provider on Redis: one server, a primary behind
// Sentinel, or a Cluster. (It has nothing to do with identity providers.)
//
// It is for applications on several machines. What one of them saves, all of them
// load at once; a user's tokens are refreshed by one machine at a time; a sign-out
// on one empties the others' copies in memory within milliseconds. The application
// builds the client of go-redis and keeps it; [RecommendedOptions] has the
// timeouts that it should have, and [Provider.Doctor] tells what is wrong with the
// server.
//
// # What is stored
//
// Every key begins with Options.Prefix and the owner in braces, which makes the
// owner the hash tag, so that everything of an owner is in one slot of a Cluster:
//
//	coatcheck:{owner}:r:partition   string: version, expiry and the sealed tokens
//	coatcheck:{owner}:m             string: the owner's removal mark
//	coatcheck:{owner}:i             sorted set: the owner's partitions, by expiry
//	coatcheck:{owner}:l:partition   string: who holds the lease
//	coatcheck:changes               channel: version and name of every save
//
// Owner and partition are keyed hashes, and what is stored is sealed by the Cache.
// All keys expire by themselves. A signed-in user costs about 600 bytes and the
// sealed tokens.
//
// # Round trips
//
// A load is one round trip of two reads. A save is one of a value and a script: it
// compares the version and the owner's mark, puts the value in its place with its
// expiry, keeps the owner's index, and tells the other machines. Nothing scans the
// keys but [Provider.Names], for [tokencache.Migrate]. On a busy machine, loads of one moment share a pipeline, unless the client
// is one of a Cluster; a hook of the client sees it with the context of one of them.
//
// # The server
//
// Redis 6.2 or newer; it is tested with 7.0. Three settings matter:
//
//   - maxmemory-policy noeviction. Any other policy signs users out without a word
//     when the memory is full, and may evict a removal mark before the tokens that
//     it removes. With noeviction, saves fail while the memory is full: nobody is
//     signed out, and users can still sign out.
//   - Replication is asynchronous: a failover may lose the last writes, also those
//     that were acknowledged. A Cache recognises that, and restores them, see
//     [tokencache]; min-replicas-to-write has there be fewer.
//   - appendonly yes, if the tokens are to survive a restart of the server. Without
//     it everybody signs in again. What a killed server loses with appendfsync
//     everysec, up to the last two seconds, is as after a failover; appendfsync
//     always loses nothing.
//
// With access lists, the user needs
//
//	~coatcheck:* &coatcheck:changes +getrange +strlen +get +set +setrange +del
//	+exists +rename +pexpire +pexpireat +persist +zadd +zrem +zcard
//	+zremrangebyscore +zrangebyscore +zrevrange +time +eval +evalsha +publish
//	+subscribe +ping
//
// for [Provider.Doctor] also +info +client|info, for [Provider.Names] +info +scan, for a database other than 0
// +select, and on a Cluster what its client asks for, +cluster|slots. With another
// Options.Prefix, the patterns of the keys and the channel begin with that.
//
// # Sharing a server
//
// Each application has an Options.Prefix of its own. A database of its own is no
// substitute: a channel is heard in all databases. A server that is a cache for
// others, with an eviction policy, is no place for tokens.
//
// # The end
//
// Close the Cache first, then the provider, then the client.
//
// # The client's log
//
// go-redis writes the addresses of servers that it cannot reach to stderr, whatever
// Options.Log is; redis.SetLogger sends that elsewhere, for the whole process.
//
// # Sentinel
//
// While Sentinel makes a planned failover, a Watch may stay with the primary that
// was for some seconds, and hear nothing; copies in memory then live until their
// maximum age.
//
// # Cluster
//
// While a slot is being moved, its owners' tokens can be read but not saved,
// usually for some milliseconds; to the Cache that is an outage of that length.
package redis
