package tokencache

import (
	"context"
	"errors"
	"time"
)

// Options are the optional settings of a [Cache]. The zero value of each field
// means its default; a negative duration is an error of [New].
type Options struct {
	// Keys name and encrypt what leaves the process. A provider that is not
	// in-process requires them, unless AllowUnencryptedStorage is set. Without a
	// provider they are an error: hooks encrypt what they write themselves.
	Keys *Keys
	// AllowUnencryptedStorage lets tokens be stored as plaintext where there
	// are no Keys. It changes nothing where there are.
	AllowUnencryptedStorage bool

	// BeforeAccess, BeforeWrite and AfterAccess observe every access to a
	// partition and may veto it; see [Hook].
	BeforeAccess Hook
	BeforeWrite  Hook
	AfterAccess  Hook

	// Events, unless nil, is told of everything that happens: see [Event], and
	// [LogEvents] for one that writes a log. It is called by those whom it
	// happens to, several at once, and by background work; it must be quick, must
	// not call the cache, and a panic in it is its caller's, or the program's.
	Events func(context.Context, Event)

	// RefreshMargin is how long before its expiry an access token is
	// refreshed, and at most a quarter of the token's lifetime. Within the
	// margin the token is still served if the authorization server is down, and one
	// of the application's own while the new one is obtained. Defaults to 5 minutes.
	RefreshMargin time.Duration
	// IdleTimeout is how long a user's partition lives after it was last used,
	// and up to a twentieth longer, so that not all end at once. Use is noticed
	// when a tenth of it has passed. Make it no shorter than the life of an
	// access token. Defaults to 14 days.
	IdleTimeout time.Duration
	// AbsoluteTimeout is how long a user's partition lives after the last
	// sign-in, however much it is used. Defaults to 90 days.
	AbsoluteTimeout time.Duration
	// L1MaxBytes bounds the decrypted partitions that are kept in this process.
	// Defaults to 64 MiB.
	L1MaxBytes uint64
	// L1MaxAge is how old a partition kept in this process may be: the bound on
	// how long a change by another machine goes unseen when the provider does
	// not tell of it, and on how long tokens are served while the provider is
	// down. With less than a millisecond nothing is kept. Defaults to 15 seconds.
	L1MaxAge time.Duration
	// ProviderTimeout bounds every call to the provider, also where its driver
	// does not look at the context. A provider that is in-process or local, where
	// only a busy processor or disk takes time, has twenty times as much; one that is
	// in-process must look at the context.
	// Without a provider it bounds the hooks. Defaults to 250 ms.
	ProviderTimeout time.Duration
}

// withDefaults returns a copy with every default filled in.
func (o *Options) withDefaults() (Options, error) {
	var out Options
	if o != nil {
		out = *o
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&out.RefreshMargin, 5 * time.Minute},
		{&out.IdleTimeout, 14 * 24 * time.Hour},
		{&out.AbsoluteTimeout, 90 * 24 * time.Hour},
		{&out.L1MaxAge, 15 * time.Second},
		{&out.ProviderTimeout, 250 * time.Millisecond},
	} {
		if *d.field < 0 {
			return out, errors.New("tokencache: a duration in Options is negative")
		}
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if out.L1MaxBytes == 0 {
		out.L1MaxBytes = 64 << 20
	}
	return out, nil
}

// markLife outlasts whatever an owner has when it is removed: what a removal
// that was cut short has not reached stays marked until it vanishes by itself.
func (o *Options) markLife() time.Duration {
	return max(o.IdleTimeout+o.IdleTimeout/20, tombstoneLife)
}

// Bounds that nobody has asked to change.
const (
	// tombstoneLife outlasts the longest request, so that whatever was in
	// flight when a partition was removed still finds the tombstone.
	tombstoneLife = 5 * time.Minute
	// flightTimeout bounds how long a refresh waits for its turn, and again how
	// long it talks to the server: waiting must not shorten the talk, whose
	// answer would be lost.
	flightTimeout = 30 * time.Second
	// saveTimeout bounds a save with its retries, on a context that outlives
	// the request: by then the server has issued the tokens.
	saveTimeout = 5 * time.Second
	// removeTimeout bounds the removal of one partition with its retries, while
	// somebody waits to see that they are signed out. A sign-in looks for as long
	// what it is to replace.
	removeTimeout = 2 * time.Second
	// revokeTimeout bounds how long somebody who signs out waits for the server
	// to be told.
	revokeTimeout = 5 * time.Second
	// saveAttempts bounds the rounds of conflict and retry of one save.
	saveAttempts = 10
	// leaseTTL is how long a machine that dies keeps others waiting. The lease
	// is renewed at a third of it.
	leaseTTL = 10 * time.Second
	// leaseAttempts bounds how often a refresh starts over whose lease was lost
	// before it could spend anything.
	leaseAttempts = 3
	// flightSaveTimeout bounds how long a caller waits for a new token to be
	// stored, with retries. It is then kept and stored later.
	flightSaveTimeout = time.Second
	// unsavedRetry is the pause between attempts to store what is kept.
	unsavedRetry = 150 * time.Millisecond
	// breakerFailures in a row make the provider's calls fail at once, but for
	// one every breakerRest.
	breakerFailures = 5
	breakerRest     = 200 * time.Millisecond
	// leasePoll is how often a machine looks whether another has finished; each
	// wait is drawn from half to one and a half times it.
	leasePoll = 40 * time.Millisecond
	// unknownLifetime is how long an access token is kept whose server did not
	// say when it ends.
	unknownLifetime = 5 * time.Minute
	// refusalLife is how long a refused refresh token is not tried again.
	refusalLife = 30 * time.Second
)
