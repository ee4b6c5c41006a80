package session

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// patience bounds what goes on when the caller has left.
const patience = 5 * time.Second

// signInKey is that of a context within SignIn.
type signInKey struct{ provider *Provider }

// signIn is a sign-in under way.
type signIn struct {
	name atomic.Pointer[tokencache.Name] // where its tokens are stored
}

// probe is a context of our own, so that comparing two of them cannot panic.
type probe struct{ context.Context }

// within tells whether there is a session in ctx. Without a token, Load returns ctx
// itself if there is, and else another one; it asks no store.
func (p *Provider) within(ctx context.Context) bool {
	asked := &probe{ctx}
	got, err := p.manager.Load(asked, "")
	return err == nil && got == context.Context(asked)
}

// value is what the session holds: the ticket's text, a space, and the name of the
// record. The latter tells the session's own tokens from others that a request works
// with.
type value struct{ ticket, partition string }

func (p *Provider) value(ctx context.Context) (v value, within bool) {
	if !p.within(ctx) {
		return value{}, false
	}
	v.ticket, v.partition, _ = strings.Cut(p.manager.GetString(ctx, p.key), " ")
	return v, true
}

// deadline returns when the session in ctx ends, if the record is that of its
// sign-in, and else zero.
func (p *Provider) deadline(ctx context.Context, name tokencache.Name) time.Time {
	v, within := p.value(ctx)
	if !within {
		return time.Time{}
	}
	if s, ok := ctx.Value(signInKey{p}).(*signIn); ok {
		if at := s.name.Load(); at != nil && *at == name {
			return p.manager.Deadline(ctx)
		}
	}
	if v.partition != name.Partition {
		return time.Time{}
	}
	return p.manager.Deadline(ctx)
}

// Reference returns the name that the tokens of the session are, or will be, kept
// apart by: that of its sign-in, so that another one, for more scopes, joins it, or a
// new one of 130 random bits. Give it to [tokencache.Cache.SignInSession], or to a
// client as xoauth2.SignInOptions.Session. The error is [ErrNoSession].
func (p *Provider) Reference(ctx context.Context) (string, error) {
	v, within := p.value(ctx)
	if !within {
		return "", ErrNoSession
	}
	if reference := v.reference(); reference != "" {
		return reference, nil
	}
	return rand.Text(), nil
}

// SignIn completes a sign-in and puts its ticket into the session. complete asks the
// authorization server and stores the tokens through a Cache on this provider, with
// the context that it is given.
//
// First the session gets another token (RenewToken), so that nobody who knows the one
// from before is signed in as well, and a callback that is sent twice finds the
// session once. Last the session is stored, without waiting for the response. Call it
// before the first byte of that: the cookie is new.
//
// Tokens that an earlier sign-in of another account has left in the session are not
// removed. They end with its deadline; [Provider.Destroy] removes them before.
//
// Errors: [ErrNoSession], complete's, [tokencache.ErrUnavailable] if the session store
// does not answer, or a mistake of the program. Nobody is signed in then.
func (p *Provider) SignIn(
	ctx context.Context, complete func(context.Context) (tokencache.Ticket, error),
) (tokencache.Ticket, error) {
	if !p.within(ctx) {
		return tokencache.Ticket{}, ErrNoSession
	}
	if err := p.manager.RenewToken(ctx); err != nil {
		return tokencache.Ticket{}, mapped(ctx, "the session could not be renewed", err)
	}
	s := &signIn{}
	ticket, err := complete(context.WithValue(ctx, signInKey{p}, s))
	if err != nil {
		return tokencache.Ticket{}, err
	}
	name := s.name.Load()
	switch {
	case reference(ticket) == "":
		return tokencache.Ticket{}, errNotApart
	case name == nil:
		return tokencache.Ticket{}, errElsewhere
	}
	p.manager.Put(ctx, p.key, ticket.Encode()+" "+name.Partition)
	stored, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if _, _, err := p.manager.Commit(stored); err != nil {
		p.manager.Remove(ctx, p.key)
		return tokencache.Ticket{}, &failure{"the session could not be stored", err}
	}
	return ticket, nil
}

// Ticket returns the ticket of the session. The errors are [ErrNoSession], and
// [tokencache.ErrNoTokens] if nobody is signed in.
func (p *Provider) Ticket(ctx context.Context) (tokencache.Ticket, error) {
	v, within := p.value(ctx)
	if !within {
		return tokencache.Ticket{}, ErrNoSession
	}
	t, err := tokencache.ParseTicket(v.ticket)
	if err != nil {
		return tokencache.Ticket{}, tokencache.ErrNoTokens
	}
	return t, nil
}

// Key resolves the request's session, for middleware.LoadAndSave: the key of its
// tokens, and false if nobody is signed in, or if there is no session because the
// manager's LoadAndSave is not around it. It asks no store.
func (p *Provider) Key(r *http.Request) (tokencache.Key, bool) {
	t, err := p.Ticket(r.Context())
	if err != nil {
		return tokencache.Key{}, false
	}
	return t.Key(), true
}

// Destroy removes the tokens of the session, and then the session: the manager's own
// Destroy, for which scs has no hook, leaves the tokens. signOut is called with the
// session's partition in its context, and removes it: give it a client's SignOut, or
// SignOutEverywhere, which have the authorization server revoke the refresh token.
// With nil the partition is removed and no server told.
//
// If tokens could not be removed, the error is signOut's, and the session is still
// there: repeat it. A server that could not be told keeps neither; the error is
// signOut's as well. If it is the session store that does not answer, the tokens are
// gone, and the error is [tokencache.ErrUnavailable]: repeat it. Without a session in
// ctx it is [ErrNoSession]; a session in which nobody is signed in is destroyed. Once it
// has begun, it goes on when ctx ends.
//
// With IdleTimeout, a request that was under way stores the session again when it
// ends. Its ticket then opens nothing: [tokencache.ErrNoTokens].
func (p *Provider) Destroy(ctx context.Context, cache *tokencache.Cache, signOut func(context.Context) error) error {
	switch {
	case !p.within(ctx):
		return ErrNoSession
	case cache == nil:
		return errors.New("session: the cache is nil")
	}
	ctx = context.WithoutCancel(ctx)
	var told error
	if ticket, err := p.Ticket(ctx); err == nil {
		partition := cache.Partition(ticket.Key())
		if signOut == nil {
			signOut = func(ctx context.Context) error { return partition.SignOut(ctx, nil) }
		}
		told = signOut(tokencache.NewContext(ctx, partition))
		if told != nil {
			// Which error means what is the client's affair. Asking is certain.
			if err := cache.Partition(ticket.Key()).Check(ctx); !errors.Is(err, tokencache.ErrNoTokens) {
				return told
			}
		}
		if errors.Is(told, tokencache.ErrNoTokens) {
			told = nil // there was nothing to remove, as the user wanted
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := p.manager.Destroy(ctx); err != nil {
		return errors.Join(&failure{"the tokens are removed, and the session could not be destroyed", err}, told)
	}
	return told
}

// reference returns the one that the ticket's tokens are kept apart by, "" if they
// are not.
func (v value) reference() string {
	t, err := tokencache.ParseTicket(v.ticket)
	if err != nil {
		return ""
	}
	return reference(t)
}
