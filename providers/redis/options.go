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
	// control characters in it. Applications that share a server need one each,
	// also in databases of their own. All machines of one have the same.
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
// With an access list and TLS, it also has
//
//	o.Username, o.Password = "app", password
//	o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
//
// For a primary behind Sentinel, Addrs are the sentinels and MasterName is set; the
// sentinels have SentinelUsername and SentinelPassword of their own. For a Cluster,
// Addrs are some of its nodes and IsClusterMode is true:
//
//	o.Addrs, o.MasterName = []string{"sentinel1:26379", "sentinel2:26379"}, "primary"
//	o.Addrs, o.IsClusterMode = []string{"node1:6379", "node2:6379"}, true
//
// TLSConfig is for all of these connections: certificates must have the names or
// addresses that sentinels and nodes announce.
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
