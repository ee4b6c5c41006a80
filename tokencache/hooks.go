package tokencache

import (
	"context"
	"crypto/rand"
	"errors"
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
//   - An error from BeforeWrite stops the save. Signing in or out and Expire fail
//     with it. Tokens that a refresh has obtained are handed out all the same,
//     though not stored: a rotated refresh token is then lost, and the user will
//     have to sign in again.
//   - An error from AfterAccess is dropped.
//
// When others have changed the partition meanwhile, the change is made again, and
// BeforeWrite called again. What could not be stored at once is stored later, as an
// access of its own.
//
// # Hooks as the persistence
//
// Without a provider ([New]) the hooks are the persistence. BeforeAccess reads:
// it fills the Tokens of its Access with [Tokens.Deserialize], and leaves them
// empty if nothing is stored under SuggestedKey. AfterAccess writes: if
// HasStateChanged, it stores what [Tokens.Serialize] gives until SuggestedExpiry,
// or, if HasTokens is false, deletes what is stored. What is serialized is not
// encrypted, and is the application's to protect; [Options.Keys] must be nil.
//
// Every access reads again, also inside a refresh and before a change is made once
// more; nothing is kept in memory but what could not be written. Each call of
// the two has [Options.ProviderTimeout], and must look at its context. Several reads of a
// partition may run at once in this process, a write runs alone.
//
// In one process, saves do not overwrite each other. Among processes the last
// writer wins, unless AfterAccess finds that somebody else has written since
// BeforeAccess and returns [ErrConflict]: the change is then made to what is read
// again. There are no leases, and signing out everywhere reaches the account's own
// partition only.
//
//   - An error from BeforeAccess fails the access with [ErrUnavailable], and nothing
//     is changed. But one that is [ErrUnreadable] or [ErrTooLarge], as those of
//     Deserialize and [KeyRing.Decrypt] are, means that what is stored is of no
//     use: the access fails with ErrUnreadable, and a new sign-in replaces it.
//   - An error from AfterAccess never withdraws a token that was obtained: the
//     write is tried again, in the background too. Only [ErrTooLarge] is final.
//
// A hook that panics, panics in the caller of the cache. The tokens that it was to
// store are then stored later. In background work, which has no caller, a panic
// counts as an outage.
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
	// was (AfterAccess), saved or removed; also if the access then failed.
	HasStateChanged bool
	// SuggestedKey is a name for the partition: 43 letters, digits, "-" and "_",
	// different for each. It is an HMAC; without [Options.Keys], and so always where
	// hooks are the persistence, its key is public: whoever knows an account can
	// tell its name. Where that matters, hash it with a key of your own.
	SuggestedKey string
	// SuggestedExpiry is when the partition ends if it is not used again; zero
	// unless HasStateChanged and HasTokens.
	SuggestedExpiry time.Time
	// CorrelationID is the same for all accesses of one request.
	CorrelationID string
	// Source tells where a token came from. It is not known when hooks that
	// persist are called to write.
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
	saved   bool // a change was stored
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
	return ctx, a, hookFailed("BeforeAccess", h.before(ctx, a))
}

// hookFailed is the error of a hook that could not do its work. What such an
// error says of users and of conditions is not about this partition.
func hookFailed(op string, err error) error {
	if err == nil {
		return nil
	}
	for named := range answers {
		if isAnswer(named, err) || errors.Is(err, ErrNoTokens) {
			return unavailable(op, errors.New(err.Error()))
		}
	}
	return unavailable(op, err)
}

// writing announces a save of the snapshot, nil for a removal.
func (h *hooks) writing(ctx context.Context, a *Access, s *snapshot, expires time.Time) error {
	if a == nil {
		return nil
	}
	h.show(a, s)
	a.change(expires)
	if h.write == nil {
		return nil
	}
	allowed := false
	defer func() {
		if !allowed { // also after a panic: what was to be stored is not there
			h.show(a, nil)
			a.noChange()
		}
	}()
	err := h.write(ctx, a)
	allowed = err == nil
	return err
}

// change tells that what is shown is about to be stored, and until when.
func (a *Access) change(expires time.Time) {
	a.HasStateChanged, a.SuggestedExpiry = true, time.Time{}
	if a.HasTokens {
		a.SuggestedExpiry = expires
	}
}

func (a *Access) noChange() { a.HasStateChanged, a.SuggestedExpiry = false, time.Time{} }

// done notes that a change was stored, whatever comes after.
func (a *Access) done() {
	if a != nil {
		a.saved = true
	}
}

// end tells how the access went.
func (p *Partition) end(ctx context.Context, a *Access, s *snapshot, source Source, err error) {
	h := &p.cache.hooks
	if a == nil || h.after == nil || a.written {
		return
	}
	if !a.saved || h.persist { // hookStore has had the change written
		a.noChange()
	}
	h.show(a, s)
	a.Source, a.Err, a.Duration = source, err, time.Since(a.started)
	if h.persist {
		_ = p.cache.byHooks.run(ctx, h.after, a)
		return
	}
	_ = h.after(ctx, a)
}

// show shows the contents, nil where they are not known. Hooks that persist may
// write back what they are shown, so that it is all of the document.
func (h *hooks) show(a *Access, s *snapshot) {
	a.Tokens, a.HasTokens = nil, false
	if s == nil {
		return
	}
	a.HasTokens = s.usable(a.ClientID, a.Account, time.Now())
	if !h.persist {
		a.Tokens = tokensOf(s)
	} else if doc, err := s.document(); err == nil {
		a.Tokens = &Tokens{doc: doc.withMeta(s.meta)}
	}
}

func newCorrelationID() string { return rand.Text() }
