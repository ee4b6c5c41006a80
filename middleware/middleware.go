package middleware

import (
	"context"
	"net/http"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Resolver tells whose tokens a request works with: the key of the partition,
// and false if nobody is signed in. It must trust nothing in the request that has
// not been authenticated. It is called once for each request.
type Resolver func(*http.Request) (tokencache.Key, bool)

// SessionAccount resolves the account that is signed in to a web session. The
// function returns what the application keeps in the session after a sign-in,
// the text of [tokencache.Ticket.Encode], and "" if there is none. A text that is not
// a ticket is nobody's.
func SessionAccount(ticket func(context.Context) string) Resolver {
	return func(r *http.Request) (tokencache.Key, bool) {
		t, err := tokencache.ParseTicket(ticket(r.Context()))
		if err != nil {
			return tokencache.Key{}, false
		}
		return t.Key(), true
	}
}

// LoadAndSave puts the partition that the resolver names into the request's
// context, where [tokencache.Cache.FromContext] and clients find it. A request
// of nobody passes unchanged. It does no I/O: the partition is loaded when
// it is first used, at most once in a request, and saved whenever it changes.
// Several caches, each with a LoadAndSave of its own, may serve one request.
//
// The response to somebody's request says Cache-Control: no-store (RFC 9111
// §5.2.2.5), whether or not a token is used, so that no cache keeps what was made
// with one user's tokens. The field is set before the handler is called, and
// replaces what an outer middleware has set, unless that says no-store too. A
// handler that serves something cacheable sets its own, which replaces this one.
func LoadAndSave(cache *tokencache.Cache, resolve Resolver) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			key, ok := resolve(r)
			if !ok {
				next.ServeHTTP(w, r)
				return
			}
			own := newOwned(r, cache.Partition(key))
			forbidStoring(w.Header(), &own.cacheControl)
			next.ServeHTTP(w, &own.request)
		})
	}
}

// owned is a request of somebody. The header value of its response is here because
// that costs no allocation of its own, and sharing one value among all responses
// would let a handler that writes into its header change everybody's.
type owned struct {
	request      http.Request
	cacheControl [1]string
}

// newOwned is a function of its own because the compiler then keeps the copy that
// WithContext makes on the stack.
func newOwned(r *http.Request, p *tokencache.Partition) *owned {
	return &owned{request: *r.WithContext(tokencache.NewContext(r.Context(), p))}
}

// RequireTokens lets a request pass only if its user has tokens to work with.
// Otherwise the application's function answers, and knows why from the error:
//
//   - [tokencache.ErrNoTokens]: nobody is signed in, or somebody is whose tokens
//     are gone (removed elsewhere, evicted, sealed with a lost key). Ask them to
//     sign in again, or end the session.
//   - [tokencache.ErrUnavailable]: the token store does not answer. The user is
//     still signed in: ask them to try again later.
//   - the context's error: the caller has left.
//
// It may load the partition; the handler then works with what was loaded. A
// refresh token that the authorization server has revoked is only found out when
// it is used, so that handlers still meet ErrNoTokens.
func RequireTokens(cache *tokencache.Cache, otherwise func(http.ResponseWriter, *http.Request, error)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			err := tokencache.ErrNoTokens
			if p, ok := cache.FromContext(r.Context()); ok {
				err = p.Check(r.Context())
			}
			if err != nil {
				otherwise(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}
