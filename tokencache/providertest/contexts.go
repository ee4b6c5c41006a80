package providertest

import (
	"context"
	"errors"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func contextTests() []testCase {
	return []testCase{
		{"Load", testContextLoad},
		{"Save", testContextSave},
		{"Capabilities", testContextCapabilities},
	}
}

// ended returns contexts that have ended: cancelled, and past their deadline.
func (e *env) ended() map[string]context.Context {
	cancelled, cancel := context.WithCancel(e.ctx)
	cancel()
	late, cancelLate := context.WithDeadline(e.ctx, time.Now().Add(-time.Second))
	e.Cleanup(cancelLate)
	return map[string]context.Context{"cancelled": cancelled, "past its deadline": late}
}

// wantEnded reports an error that tells the caller something about the store:
// one would sign a user out because a request was given up.
func (e *env) wantEnded(err error, what string) {
	e.Helper()
	if err == nil {
		e.broken(ruleContext, "%s: got no error", what)
	}
	for _, not := range []error{
		tokencache.ErrNotFound, tokencache.ErrConflict, tokencache.ErrRemoved,
		tokencache.ErrNoTokens, tokencache.ErrTooLarge, tokencache.ErrBusy,
	} {
		if errors.Is(err, not) {
			e.broken(ruleContext, "%s: got error %v", what, err)
		}
	}
}

func testContextLoad(e *env) {
	present := e.create(record("there"))
	for name, ctx := range e.ended() {
		_, err := e.p.Load(ctx, newName())
		e.wantEnded(err, "Load of what is absent, context "+name)
		got, err := e.p.Load(ctx, present)
		e.wantEnded(err, "Load of what is there, context "+name)
		if len(got.Sealed) > 0 {
			e.broken(ruleContext, "Load, context %s: got content along with error %v", name, err)
		}
	}
}

func testContextSave(e *env) {
	for name, ctx := range e.ended() {
		n, old := newName(), record("before")
		err := e.p.Save(ctx, n, record("given up"), tokencache.Condition{})
		e.wantEnded(err, "Save of a new record, context "+name)
		e.wantAbsent(ruleContext, e.peer, n)

		e.save(e.p, n, old, tokencache.Condition{})
		err = e.p.Save(ctx, n, record("given up"), tokencache.IfVersion(old.Version))
		e.wantEnded(err, "Save by version, context "+name)
		err = e.p.Save(ctx, n, record("given up"), tokencache.IfVersion(tokencache.NewVersion()))
		e.wantEnded(err, "Save that would conflict, context "+name)
		err = e.p.Save(ctx, n, tombstone(), tokencache.Always())
		e.wantEnded(err, "removal, context "+name)
		e.wantStored(ruleContext, e.peer, n, old)
	}
}

// testContextCapabilities tries what is offered; the rest has nothing to try.
func testContextCapabilities(e *env) {
	r := record("there")
	n := e.create(r)
	for name, ctx := range e.ended() {
		if c := e.caps.Toucher; c != nil {
			e.wantEnded(c.Touch(ctx, n, r.Version, time.Now().Add(-time.Second)), "Touch, context "+name)
			e.wantEnded(c.Touch(ctx, newName(), r.Version, later()), "Touch of what is absent, context "+name)
		}
		if c := e.caps.Owners; c != nil {
			e.wantEnded(c.SetMark(ctx, n.Owner, tokencache.NewVersion(), later()), "SetMark, context "+name)
			names, err := c.List(ctx, n.Owner)
			e.wantEnded(err, "List, context "+name)
			if len(names) > 0 {
				e.broken(ruleContext, "List, context %s: got names along with error %v", name, err)
			}
		}
		if c := e.caps.Leaser; c != nil {
			_, err := c.Acquire(ctx, n, time.Hour)
			e.wantEnded(err, "Acquire, context "+name)
		}
		if c := e.caps.Sweeper; c != nil {
			_, err := c.Sweep(ctx)
			e.wantEnded(err, "Sweep, context "+name)
		}
		if c := e.caps.Pinger; c != nil {
			e.wantEnded(c.Ping(ctx), "Ping, context "+name)
		}
	}
	e.wantStored(ruleContext, e.p, n, r)
	if got, _ := e.p.Load(e.ctx, n); got.Mark != (tokencache.Version{}) {
		e.broken(ruleContext, "SetMark with an ended context set a mark")
	}
	if c := e.caps.Leaser; c != nil {
		lease, err := c.Acquire(e.ctx, n, time.Hour)
		e.want(ruleContext, err, nil, "Acquire after one that was given up")
		e.want(ruleRelease, lease.Release(e.ctx), nil, "Release")
	}
}
