package redis

import (
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Options are the optional settings of [New]. The zero value of each field means
// its default.
type Options struct {
	// Prefix begins the name of every key and of the channel that tells of
	// changes. It is at most 64 characters long and has no braces, spaces or
	// control characters in it. Applications that share a server need one each.
	// Defaults to "coatcheck:".
	Prefix string
	// Log gets what an operator should know and no caller can be told: a client
	// that does not look at contexts, and changes of other machines that cannot be
	// heard of. Defaults to slog.Default().
	Log *slog.Logger
}

const (
	defaultPrefix = "coatcheck:"
	maxPrefix     = 64
)

func (o *Options) withDefaults() (Options, error) {
	var out Options
	if o != nil {
		out = *o
	}
	if out.Prefix == "" {
		out.Prefix = defaultPrefix
	}
	if out.Log == nil {
		out.Log = slog.Default()
	}
	// A brace would begin the hash tag that the owner must be.
	if len(out.Prefix) > maxPrefix || strings.ContainsFunc(out.Prefix, func(r rune) bool {
		return r <= ' ' || r > '~' || r == '{' || r == '}'
	}) {
		return out, errors.New("redis: Options.Prefix must be up to 64 printable ASCII characters without braces and spaces")
	}
	return out, nil
}

// RecommendedOptions are those of a client whose calls end in time: a connection
// within 300 ms, an answer within 200 ms, one more try after 5 to 20 ms where that
// is safe, and never later than the call's own deadline. (With go-redis's defaults
// a server that hangs holds a connection for 5 s, and a call for longer.) The
// caller adds addresses, credentials and TLS, and passes them to
// [redis.NewUniversalClient]:
//
//	o := redisprovider.RecommendedOptions()
//	o.Addrs = []string{"127.0.0.1:6379"}
//	client := redis.NewUniversalClient(o)
//
// For a primary behind Sentinel, Addrs are the sentinels and MasterName is set;
// for a Cluster, Addrs are some of its nodes and IsClusterMode is true.
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
