package middleware

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// BearerOptions are the settings of [RequireBearer]. The zero value of each field
// means its default.
type BearerOptions struct {
	// Scopes are those that a token must grant, all of them; none by default.
	Scopes []string
	// Realm names the API in WWW-Authenticate (RFC 9110 §11.5), without quotes and
	// backslashes; none by default.
	Realm string
}

// RequireBearer lets a request of a web API pass that has one bearer token in its
// Authorization header (RFC 6750 §2.1), which the verifier accepts. The handler's
// context then carries the token ([tokencache.AssertionFromContext]) and the
// partition of what is obtained on behalf of its bearer, which ends with the token
// and is owned by its account. A nil *BearerOptions means the defaults.
//
// Whatever else comes is answered as RFC 6750 §3 says, and leaves no trace in any
// provider:
//
//   - no token: 401
//   - a token that the verifier refuses, or that is longer than 16 KiB: 401, invalid_token
//   - more than one Authorization header, or one that is malformed: 400, invalid_request
//   - a token without the scopes: 403, insufficient_scope
//   - a verifier that cannot tell, because the keys of the authorization server
//     cannot be had: 503
//
// The response says Cache-Control: no-store as that of [LoadAndSave] does.
func RequireBearer(cache *tokencache.Cache, v tokencache.Verifier, o *BearerOptions) func(http.Handler) http.Handler {
	var opts BearerOptions
	if o != nil {
		opts = BearerOptions{Scopes: slices.Clone(o.Scopes), Realm: o.Realm}
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			a, refused := opts.admit(r, v)
			if refused != nil {
				refused.realm = opts.Realm
				refused.write(w)
				return
			}
			r = r.WithContext(tokencache.NewAssertionContext(r.Context(), a))
			own := newOwned(r, cache.Partition(tokencache.AssertionKey(a)))
			forbidStoring(w.Header(), &own.cacheControl)
			next.ServeHTTP(w, &own.request)
		})
	}
}

// maxBearer bounds a token, in bytes. Servers bound their headers, but not all as
// low.
const maxBearer = 16 << 10

// admit returns the verified token of the request, or the answer that refuses it.
func (o *BearerOptions) admit(r *http.Request, v tokencache.Verifier) (tokencache.Assertion, *challenge) {
	token, refused := bearer(r.Header.Values("Authorization"))
	if refused != nil {
		return tokencache.Assertion{}, refused
	}
	a, err := tokencache.VerifyAssertion(r.Context(), v, token)
	switch {
	case err != nil && cannotTell(err):
		return tokencache.Assertion{}, &challenge{status: http.StatusServiceUnavailable}
	case err != nil:
		return tokencache.Assertion{}, &challenge{status: http.StatusUnauthorized, code: "invalid_token"}
	case slices.ContainsFunc(o.Scopes, func(s string) bool { return !slices.Contains(a.Scopes(), s) }):
		return tokencache.Assertion{}, &challenge{status: http.StatusForbidden, code: "insufficient_scope", scopes: o.Scopes}
	}
	return a, nil
}

// cannotTell tells whether the error says nothing about the token.
func cannotTell(err error) bool {
	var down *tokencache.ServerError
	return errors.As(err, &down) || errors.Is(err, tokencache.ErrUnavailable) || isEnd(err)
}

// bearer returns the token of the Authorization headers (RFC 6750 §2.1).
func bearer(headers []string) (string, *challenge) {
	if len(headers) == 0 {
		return "", &challenge{status: http.StatusUnauthorized}
	}
	malformed := &challenge{status: http.StatusBadRequest, code: "invalid_request"}
	if len(headers) > 1 {
		return "", malformed
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	token = strings.TrimLeft(token, " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return "", &challenge{status: http.StatusUnauthorized} // it may be another middleware's
	case len(token) > maxBearer:
		return "", &challenge{status: http.StatusUnauthorized, code: "invalid_token"}
	case !isToken68(token):
		return "", malformed
	}
	return token, nil
}

// isToken68 tells whether the text is a b64token (RFC 6750 §2.1).
func isToken68(s string) bool {
	s = strings.TrimRight(s, "=")
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._~+/", r)
	})
}
