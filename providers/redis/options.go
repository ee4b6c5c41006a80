package redis

import (
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
)

// Options are the optional settings of [New]. The zero value of each field means
// its default.
type Options struct {
	// Prefix begins the name of every key and of the channel that tells of
	// changes. Applications that share a server need one each. Defaults to
	// "coatcheck:".
	Prefix string
	// Log gets what an operator should know and no caller can be told. Defaults
	// to slog.Default().
	Log *slog.Logger
}

const defaultPrefix = "coatcheck:"

// RecommendedOptions are those of a client that does not hold a request for
// longer than it must. The caller adds addresses, credentials and TLS, and passes
// them to [redis.NewUniversalClient].
func RecommendedOptions() *redis.UniversalOptions {
	return &redis.UniversalOptions{
		ContextTimeoutEnabled: true,
		DialTimeout:           300 * time.Millisecond,
		DialerRetries:         1,
		ReadTimeout:           200 * time.Millisecond,
		WriteTimeout:          200 * time.Millisecond,
		PoolTimeout:           300 * time.Millisecond,
		MaxRetries:            1,
		MinRetryBackoff:       5 * time.Millisecond,
		MaxRetryBackoff:       20 * time.Millisecond,
	}
}
