// Package redis is a storage provider on Redis: one server, a primary behind
// Sentinel, or a Cluster. (It has nothing to do with identity providers.)
//
// It is for applications on several machines. The application builds the client
// of go-redis and keeps it; see [RecommendedOptions] for the timeouts it should
// have.
package redis
