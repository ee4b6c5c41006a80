package tokencache

import (
	"context"
	"crypto/rand"
	"time"
)

// Hook is called with each access to a partition: when its tokens are looked
// up, and when they change. Hooks may be called from several goroutines at once
// and must not use the same partition.
//
// The order within one access is BeforeAccess, then for a change BeforeWrite
// and the save, then AfterAccess, which runs whatever happened before. A refresh
// is an access of its own after the lookup that missed.
//
//   - An error from BeforeAccess stops the access, which then fails with
//     [ErrUnavailable]; AfterAccess sees the error.
//   - An error from BeforeWrite stops the save. Signing in or out fails with it.
//     Tokens that a refresh has obtained are handed out all the same, though not
//     stored: a rotated refresh token is then lost, and the user will have to
//     sign in again.
//   - An error from AfterAccess is dropped.
//
// # Hooks as the persistence
//
// Without a provider ([New]) the hooks are the persistence. BeforeAccess reads:
// it fills the Tokens of its Access with [Tokens.Deserialize], and leaves them
// empty if nothing is stored under SuggestedKey. AfterAccess writes: if
// HasStateChanged, it stores what [Tokens.Serialize] gives until SuggestedExpiry,
// or, if HasTokens is false, deletes what is stored. What is serialized is not
// encrypted, and is the application's to protect.
//
// Every access reads again, also inside a refresh; nothing is kept in memory.
// In one process, saves do not overwrite each other; among processes the last
// writer wins, there are no leases, and signing out everywhere reaches the
// account's own partition only. An error from BeforeAccess fails the access with
// [ErrUnavailable]; AfterAccess then runs with the error, and nothing changed. An
// error from AfterAccess never withdraws a token that was obtained: the write is
// tried again, in the background too.
//
// A hook that panics, panics in the caller of the cache. In background work, which
// has no caller, a panic counts as an outage of the provider.
type Hook func(context.Context, *Access) error

// Access describes one access to a partition. It is valid during the call.
// Account, Tenant and Tokens are personal data or secrets: not for logs.
type Access struct {
	// ClientID is the application's.
	ClientID string
	// Key is the partition's.
	Key Key
	// Account is the home account ID, empty for the application's own tokens.
	Account string
	// Tenant is the one asked for, empty if none was.
	Tenant string
	// Scopes are those asked for; nil when signing in or out.
	Scopes []string
	// ApplicationCache tells that these are the application's own tokens.
	ApplicationCache bool
	// HasTokens tells that there is a refresh token or an unexpired access token.
	// In BeforeAccess it is not known yet, and false.
	HasTokens bool
	// HasStateChanged tells that the partition is about to be (BeforeWrite), or
	// was (AfterAccess), saved or removed.
	HasStateChanged bool
	// SuggestedKey is a name for the partition that says nothing of the account.
	SuggestedKey string
	// SuggestedExpiry is when the partition ends if it is not used again; zero
	// unless HasStateChanged and HasTokens.
	SuggestedExpiry time.Time
	// CorrelationID is the same for all accesses of one request.
	CorrelationID string
	// Source tells where a token that was looked up was found.
	Source Source
	// Duration is the time since BeforeAccess.
	Duration time.Duration
	// Err is why the access failed, or why what was obtained could not be
	// stored; nil in BeforeAccess.
	Err error
	// Tokens are the contents; nil where they are not known. In BeforeAccess
	// without a provider they are empty, for Deserialize to fill.
	Tokens *Tokens

	started time.Time
	written bool // AfterAccess was called already, to write
}

// hooks runs the hooks of a cache. Without any it costs nothing.
type hooks struct {
	before, write, after Hook
	// persist tells that the hooks are the persistence: hookStore calls before
	// and after where it reads and writes.
	persist bool
}

func (o *Options) hooks() hooks {
	return hooks{before: o.BeforeAccess, write: o.BeforeWrite, after: o.AfterAccess}
}

func (h *hooks) any() bool { return h.before != nil || h.write != nil || h.after != nil }

// begin announces an access. It returns no Access if nobody listens. The context
// is for the rest of the access.
func (p *Partition) begin(ctx context.Context, req *Request) (context.Context, *Access, error) {
	h := &p.cache.hooks
	if !h.any() {
		return ctx, nil, nil
	}
	a := &Access{
		ClientID:         p.cache.ns.ClientID,
		Key:              p.key,
		Account:          p.key.id.account,
		ApplicationCache: p.key.application(),
		CorrelationID:    p.correlation(),
		started:          time.Now(),
	}
	if req != nil {
		a.Tenant, a.Scopes = req.Tenant, req.Scopes
	}
	if name, err := p.storageName(); err == nil {
		a.SuggestedKey = name.Partition
	}
	if h.persist {
		return withAccess(ctx, a), a, nil
	}
	if h.before == nil {
		return ctx, a, nil
	}
	return ctx, a, unavailable("BeforeAccess", h.before(ctx, a))
}

// writing announces a save of the snapshot, nil for a removal.
func (h *hooks) writing(ctx context.Context, a *Access, s *snapshot, expires time.Time) error {
	if a == nil {
		return nil
	}
	a.HasStateChanged = true
	a.show(s)
	if a.HasTokens {
		a.SuggestedExpiry = expires
	}
	if h.write == nil {
		return nil
	}
	return h.write(ctx, a)
}

// end tells how the access went.
func (p *Partition) end(ctx context.Context, a *Access, s *snapshot, source Source, err error) {
	h := &p.cache.hooks
	if a == nil || h.after == nil || a.written {
		return
	}
	if err != nil {
		a.HasStateChanged = false // it was about to be
	}
	switch {
	case s != nil && h.persist: // what was read stays shown, as it can be written back
		a.HasTokens = s.usable(a.ClientID, a.Account, time.Now())
	case s != nil:
		a.show(s)
	}
	a.Source, a.Err, a.Duration = source, err, time.Since(a.started)
	_ = h.after(ctx, a)
}

func (a *Access) show(s *snapshot) {
	if s == nil {
		a.Tokens, a.HasTokens = nil, false
		return
	}
	a.Tokens = tokensOf(s)
	a.HasTokens = s.usable(a.ClientID, a.Account, time.Now())
}

func newCorrelationID() string { return rand.Text() }
