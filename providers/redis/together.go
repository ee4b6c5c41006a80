package redis

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// reads sends what is to be loaded at one moment as one pipeline. On a busy machine
// most of what a load costs is the round trip and not the commands in it: system
// calls, goroutines that wake up, a connection, here and on the server.
//
// Nobody waits for others to come. Whoever begins a batch steps aside once, for the
// goroutines that are ready to run. Where there is processor time to spare there are
// none, and a load goes out at once and alone; where there is not, those that were
// about to load join.
type reads struct {
	client redis.UniversalClient
	// scattered has each load go alone: on a Cluster, one server that hangs would
	// hold up those of the others.
	scattered bool
	running   atomic.Int64 // loads

	mu   sync.Mutex
	open *batch // that others may join, nil if there is none
}

// read is what one load asks for. Each command has an error of its own.
type read struct{ record, mark *redis.StringCmd }

// batch is a pipeline.
type batch struct {
	commands []redis.Cmder // guarded by reads.mu while it is open
	done     chan struct{} // closed when the commands have been carried out
	// deserted tells that the context of whoever sent it has ended, which is nothing
	// to the others. Set before done is closed.
	deserted bool
}

// batchMost bounds the loads of a batch. More would save little, all wait for the
// largest record, and a second batch is worked on here while the server is at the
// first.
const batchMost = 8

// load asks for a record and a mark, in this order.
func (r *reads) load(ctx context.Context, record, mark string) (read, error) {
	defer r.running.Add(-1)
	one := newRead(ctx, record, mark)
	if r.running.Add(1) == 1 || r.scattered {
		r.exec(ctx, one.record, one.mark)
		return one, nil
	}
	b, begun := r.join(one)
	if begun {
		runtime.Gosched()
		r.send(ctx, b)
		return one, nil
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		return read{}, ctx.Err() // and nobody looks at the commands any more
	}
	if b.deserted {
		one = newRead(ctx, record, mark)
		r.exec(ctx, one.record, one.mark)
	}
	return one, nil
}

func newRead(ctx context.Context, record, mark string) read {
	return read{
		record: redis.NewStringCmd(ctx, "getrange", record, 0, maxSize), // one byte more than there may be
		mark:   redis.NewStringCmd(ctx, "getrange", mark, 0, maxMark),
	}
}

// join adds the read to the open batch, or begins one, which the caller sends.
func (r *reads) join(one read) (b *batch, begun bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b = r.open; b == nil {
		b, begun = &batch{done: make(chan struct{})}, true
		r.open = b
	}
	b.commands = append(b.commands, one.record, one.mark)
	if len(b.commands) >= 2*batchMost {
		r.open = nil
	}
	return b, begun
}

// send carries a batch out that the caller has begun.
func (r *reads) send(ctx context.Context, b *batch) {
	r.mu.Lock()
	if r.open == b {
		r.open = nil
	}
	r.mu.Unlock()
	defer close(b.done)
	b.deserted = true // should a hook of the client panic
	r.exec(ctx, b.commands...)
	b.deserted = ctx.Err() != nil
}

// exec sends a pipeline. Afterwards each command has its reply or an error: the
// driver leaves them without one if the server refuses the connection.
func (r *reads) exec(ctx context.Context, commands ...redis.Cmder) {
	pipe := r.client.Pipeline()
	_ = pipe.BatchProcess(ctx, commands...) // only gathers them
	_, err := pipe.Exec(ctx)
	if err == nil || slices.ContainsFunc(commands, func(c redis.Cmder) bool { return c.Err() != nil }) {
		return
	}
	for _, c := range commands {
		c.SetErr(err)
	}
}
