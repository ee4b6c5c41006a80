package redis

import (
	"context"
	_ "embed" // the scripts
	"time"

	"github.com/redis/go-redis/v9"
)

// What must happen at once is a script: it runs alone, and all its keys are in
// one slot. Scripts are called by their hash and sent whole where the server does
// not know them, after a restart, a failover or SCRIPT FLUSH.
var (
	//go:embed scripts/save.lua
	saveSource string
	//go:embed scripts/touch.lua
	touchSource string
	//go:embed scripts/mark.lua
	markSource string
	//go:embed scripts/list.lua
	listSource string
	//go:embed scripts/acquire.lua
	acquireSource string
	//go:embed scripts/renew.lua
	renewSource string
	//go:embed scripts/release.lua
	releaseSource string

	saveScript    = redis.NewScript(saveSource)
	touchScript   = redis.NewScript(touchSource)
	markScript    = redis.NewScript(markSource)
	listScript    = redis.NewScript(listSource)
	acquireScript = redis.NewScript(acquireSource)
	renewScript   = redis.NewScript(renewSource)
	releaseScript = redis.NewScript(releaseSource)
)

// run runs a script whose answer is a number. If the reply is lost, the client may
// run it again.
func (p *Provider) run(ctx context.Context, s *redis.Script, keys []string, args ...any) (int, error) {
	return p.runBy(ctx, p.client, s, keys, args)
}

// runOnce is run for what has no condition: run again, it would undo what others
// have done after the first time. And for what must be known not to have been sent
// when a connection is refused. If the reply is lost, its caller finds out.
func (p *Provider) runOnce(ctx context.Context, s *redis.Script, keys []string, args ...any) (int, error) {
	return p.runBy(ctx, once{p.client}, s, keys, args)
}

func (p *Provider) runBy(ctx context.Context, by redis.Scripter, s *redis.Script, keys []string, args []any) (int, error) {
	stop := p.overdue(ctx)
	defer stop()
	n, err := s.Run(ctx, by, keys, args...).Int()
	return n, p.answered(err)
}

// once is a client that sends a script once.
type once struct{ redis.UniversalClient }

// EvalSha calls a script by its hash.
func (c once) EvalSha(ctx context.Context, hash string, keys []string, args ...any) *redis.Cmd {
	return c.send(ctx, "evalsha", hash, keys, args)
}

// Eval sends a script whole.
func (c once) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return c.send(ctx, "eval", script, keys, args)
}

func (c once) send(ctx context.Context, name, script string, keys []string, args []any) *redis.Cmd {
	all := []any{name, script, len(keys)}
	for _, k := range keys {
		all = append(all, k)
	}
	cmd := redis.NewCmd(ctx, append(all, args...)...)
	cmd.SetFirstKeyPos(3)
	_ = c.Process(ctx, unrepeated{cmd}) // the command has the error
	return cmd
}

// unrepeated is a command that the client does not send again.
type unrepeated struct{ *redis.Cmd }

// NoRetry tells the client.
func (unrepeated) NoRetry() bool { return true }

// forever is the life that scripts take for one without end.
const forever = -1

// lifeUntil is how long something lives that expires then, in milliseconds. It is
// counted by this machine's clock and kept by the server's, so that the two need
// not agree. A part of a millisecond counts as a whole one: none means that it is
// over.
func lifeUntil(expires time.Time) int64 {
	if expires.IsZero() {
		return forever
	}
	left := time.Until(expires)
	if left <= 0 {
		return 0
	}
	return milliseconds(left)
}

// milliseconds rounds up.
func milliseconds(d time.Duration) int64 {
	return int64((d-1)/time.Millisecond) + 1
}
