package tokencache

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"time"
)

// flight is one refresh, on its own goroutine and context. Its order is: the
// lock of this process, the lease among machines, read again, spend, save.
// Reading again matters: whoever held the lock or the lease before has usually
// done the work.
type flight struct {
	p      *Partition
	name   Name
	req    Request
	id     string // what distinguishes the request; see flightID
	server Server
	began  time.Time
	access *Access
	state  *state // what the refresh starts from, nil until it is known
	lease  *held
	kept   bool // what it obtained is kept to be saved later, and the lease with it
	alone  bool // the provider is not asked: it does not answer
}

// outcome is what a flight brings to everyone who waits for it.
type outcome struct {
	flight   *flight
	token    Token
	stored   bool   // the token is in the provider
	loaded   loaded // as the flight left it
	panicked any
}

// refresh obtains a token through the flight for this request, joining the one
// that is under way. A stale token, which is still valid, is the answer if the
// server cannot give a new one now. It tells whether the partition has changed
// since: whoever joined a flight must not be answered with what was out of date
// when they asked.
func (p *Partition) refresh(ctx context.Context, req Request, server Server, stale Token) (tok Token, overtaken bool, err error) {
	name, err := p.storageName()
	if err != nil {
		return Token{}, false, err
	}
	req.Scopes = slices.Clone(req.Scopes) // the flight may outlive the caller's slice
	id := flightID(&req)
	key := name.Partition + string(p.key.generation[:]) + id
	f := &flight{p: p, name: name, req: req, id: id, server: server}
	began := time.Now()
	result := p.cache.flights.DoChan(key, func() (any, error) {
		if err := p.cache.begin(); err != nil {
			return outcome{flight: f}, err
		}
		defer p.cache.work.Done()
		return p.fly(ctx, f)
	})
	select {
	case r := <-result:
		out := r.Val.(outcome) // put there above
		if out.flight != f {
			p.tell(ctx, Event{Kind: EventWait, Detail: detailFlight, Duration: time.Since(began)})
		}
		if out.panicked != nil {
			panic(out.panicked) // a Server or a hook panicked: in its caller, where it can be recovered
		}
		if r.Err != nil {
			tok, err = p.fallback(ctx, stale, r.Err)
			return tok, false, err
		}
		p.remember(out.loaded)
		return out.token, out.stored && out.loaded.epoch != p.cache.l1.epoch(name), nil
	case <-ctx.Done():
		return Token{}, false, ctx.Err()
	}
}

// fallback answers with a token that is about to expire where the failure says
// nothing about the user.
func (p *Partition) fallback(ctx context.Context, stale Token, err error) (Token, error) {
	var interaction *InteractionRequiredError
	final := errors.Is(err, ErrNoTokens) && !errors.Is(err, errNoRefreshToken) || errors.As(err, &interaction)
	if final || stale.AccessToken == "" || !time.Now().Before(stale.Expires) {
		return Token{}, err
	}
	p.tell(ctx, Event{Kind: EventDegraded, Detail: detailStale, Source: stale.Source, Err: err})
	return stale, nil
}

// fly runs the flight with its hooks.
func (p *Partition) fly(ctx context.Context, f *flight) (out outcome, err error) {
	defer func() {
		if r := recover(); r != nil {
			out.panicked = r
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flightTimeout)
	defer cancel()
	out.flight, f.began = f, time.Now()
	var failed error
	defer func() { // also after a panic
		p.end(ctx, f.access, f.state.snapshot(), out.token.Source, failed)
	}()
	if ctx, f.access, err = p.begin(ctx, &f.req); err == nil {
		out.token, err = f.run(ctx)
	}
	failed = err
	var notStored *notStoredError
	if errors.As(err, &notStored) && out.token.AccessToken != "" {
		err = nil // the token was obtained; nothing withdraws it
		f.tellDegraded(ctx, notStored)
	}
	out.stored, out.loaded = failed == nil, p.viewed()
	return out, err
}

// notStoredError says that a token was obtained and could not be saved.
type notStoredError struct{ err error }

func (e *notStoredError) Error() string {
	return "tokencache: the new tokens are not stored: " + e.err.Error()
}
func (e *notStoredError) Unwrap() error { return e.err }

func (f *flight) tellDegraded(ctx context.Context, err error) {
	e := Event{Kind: EventDegraded, Detail: detailUnsaved, Source: SourceServer, Err: err}
	if f.alone {
		e.Detail = detailAlone
	}
	f.p.tell(ctx, e)
}

// flightID is every parameter that changes the server's answer. Sharing a
// flight among requests that differ would hand one audience's token to another.
func flightID(r *Request) string {
	scopes := make([]string, len(r.Scopes))
	for i, s := range r.Scopes {
		scopes[i] = strings.ToLower(s)
	}
	slices.Sort(scopes)
	var b []byte
	for _, s := range slices.Compact(scopes) {
		b = appendPart(b, s)
	}
	id := appendPart(nil, string(b))
	id = appendPart(id, r.Tenant)
	id = appendPart(id, r.Resource)
	id = appendPart(id, r.Claims)
	if r.CAE {
		id = appendPart(id, extCAE)
	}
	if r.Refused != "" {
		sum := sha256.Sum256([]byte(r.Refused))
		id = append(id, sum[:]...)
	}
	return string(id)
}

// busy turns the end of a flight's own time into ErrBusy. A provider that was too
// slow is another matter.
func busy(err error) error {
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUnavailable) {
		return ErrBusy
	}
	return err
}
