package providertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// ErrFault is the error of a call that a [Fault] made fail. A Cache reports it
// as tokencache.ErrUnavailable, like any error of a backend that cannot answer.
var ErrFault = errors.New("providertest: an injected fault")

// Op is a call of a provider, of one of its capabilities, or of a lease.
type Op string

// The operations. OpAcquire, OpRenew and OpRelease are those of leases.
const (
	OpLoad    Op = "load"
	OpSave    Op = "save"
	OpAcquire Op = "acquire"
	OpRenew   Op = "renew"
	OpRelease Op = "release"
	OpTouch   Op = "touch"
	OpSetMark Op = "setmark"
	OpList    Op = "list"
	OpWatch   Op = "watch"
	OpSweep   Op = "sweep"
	OpPing    Op = "ping"
	OpNames   Op = "names"
)

func allOps() []Op {
	return []Op{
		OpLoad, OpSave, OpAcquire, OpRenew, OpRelease, OpTouch, OpSetMark, OpList, OpWatch, OpSweep, OpPing, OpNames,
	}
}

// Fault decides about one call: it may fail or wait instead of [Call.Do], before
// it or after it, and change what goes through. It runs on the caller's
// goroutine, by several of them at once. What it returns is what the caller
// gets; an error that is none of the contract's means that the backend could
// not answer.
//
// [Down], [Hang] and others are ready-made. A fault of one's own:
//
//	faults.Set(func(ctx context.Context, call *providertest.Call) error {
//		if call.Name == hers {
//			return errors.New("only hers fail")
//		}
//		return call.Do(ctx)
//	}, providertest.OpSave)
type Fault func(ctx context.Context, call *Call) error

// Call is one call that a [Fault] decides about.
type Call struct {
	// Op is what is called.
	Op Op
	// Name is the partition that is called for. It has the owner only in
	// OpSetMark and OpList, and is empty in OpWatch, OpSweep,
	// OpPing and OpNames.
	Name tokencache.Name
	// Record is, in OpSave, a copy of what Do saves: changed before, it is saved
	// changed. In OpLoad it is what Do answered: changed after, it is answered
	// changed. It is nil in every other operation.
	Record *tokencache.Record

	do     func(context.Context) error
	faults *Faults
	met    *setting
}

// Do makes the call, and returns its error. If the fault has been replaced
// since the call began, the call meets the new one first. A fault that returns
// nil without Do acknowledges what did not happen: a Save that is lost in a
// failover.
func (c *Call) Do(ctx context.Context) error {
	if now := c.faults.now(c.Op); now != c.met {
		return c.meet(ctx, now)
	}
	return c.do(ctx)
}

// Over returns a channel that is closed once the fault that decides about the
// call has been replaced or cleared.
func (c *Call) Over() <-chan struct{} { return c.met.over }

func (c *Call) meet(ctx context.Context, s *setting) error {
	c.met = s
	if s.fault == nil {
		return c.do(ctx)
	}
	return s.fault(ctx, c)
}

// Faults is a storage provider that passes every call to another one, and lets
// it fail as told. It offers what the other offers, and nothing else. It is for
// tests: how does an application behave while its backend is down, slow, or
// forgets to answer?
//
// It is safe for concurrent use; faults may be set and cleared at any time.
type Faults struct {
	provider tokencache.Provider

	mu      sync.Mutex
	current map[Op]*setting
	calls   map[Op]int
}

// setting is what happens to one operation, from one Set to the next.
type setting struct {
	fault Fault         // nil: none
	over  chan struct{} // closed by the next Set
}

// NewFaults returns a provider in front of p, without any fault yet. Whoever
// made p closes it.
//
// In front of a provider that is in-process, such as memory, a cache waits twenty
// times [tokencache.Options].ProviderTimeout for an answer: a Hang takes 5 seconds
// where another provider's would take 250 ms, unless a test sets it to a twentieth.
func NewFaults(p tokencache.Provider) *Faults {
	f := &Faults{provider: p, current: make(map[Op]*setting), calls: make(map[Op]int)}
	for _, op := range allOps() {
		f.current[op] = &setting{over: make(chan struct{})}
	}
	return f
}

// Set lets the operations meet the fault, from the next call on; all of them if
// none is named. Those that are not named keep what they had. It panics if an
// operation does not exist.
//
// A Watch that runs while the fault of OpWatch changes loses its connection, as
// it would with the backend: nothing more is told, and it returns what a new
// call would get, or ErrFault where that would succeed.
func (f *Faults) Set(fault Fault, ops ...Op) {
	if len(ops) == 0 {
		ops = allOps()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, op := range ops {
		old, ok := f.current[op]
		if !ok {
			panic(fmt.Sprintf("providertest: no operation is named %q", op))
		}
		if fault == nil && old.fault == nil {
			continue
		}
		f.current[op] = &setting{fault: fault, over: make(chan struct{})}
		close(old.over)
	}
}

// Clear ends the faults of the operations, of all if none is named. Calls that
// hang go on.
func (f *Faults) Clear(ops ...Op) { f.Set(nil, ops...) }

// Calls returns how many calls of the operations have begun, of all if none is
// named, whatever became of them.
func (f *Faults) Calls(ops ...Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(ops) == 0 {
		ops = allOps()
	}
	sum := 0
	for _, op := range ops {
		sum += f.calls[op]
	}
	return sum
}

// Load loads through the fault of [OpLoad].
func (f *Faults) Load(ctx context.Context, name tokencache.Name) (tokencache.Record, error) {
	var r tokencache.Record
	err := f.pass(ctx, &Call{Op: OpLoad, Name: name, Record: &r, do: func(ctx context.Context) (err error) {
		r, err = f.provider.Load(ctx, name)
		return err
	}})
	if err != nil && !errors.Is(err, tokencache.ErrNotFound) {
		return tokencache.Record{}, err // a lost reply shows nothing
	}
	return r, err
}

// Save saves through the fault of [OpSave].
func (f *Faults) Save(ctx context.Context, name tokencache.Name, r tokencache.Record, cond tokencache.Condition) error {
	r.Sealed = bytes.Clone(r.Sealed)
	return f.pass(ctx, &Call{Op: OpSave, Name: name, Record: &r, do: func(ctx context.Context) error {
		return f.provider.Save(ctx, name, r, cond)
	}})
}

// pass counts a call and lets it meet its fault.
func (f *Faults) pass(ctx context.Context, c *Call) error {
	f.mu.Lock()
	f.calls[c.Op]++
	s := f.current[c.Op]
	f.mu.Unlock()
	c.faults = f
	return c.meet(ctx, s)
}

// now returns what a call would meet.
func (f *Faults) now(op Op) *setting {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current[op]
}
