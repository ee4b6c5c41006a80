package middleware

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Challenge answers for a web API that could not get a token on behalf of its
// caller, if it is the caller who can mend that, and tells whether it has:
//
//   - for a *[tokencache.InteractionRequiredError], 401 with insufficient_claims and
//     its claims, in base64, as Microsoft Entra ID's APIs send them; without claims,
//     403 with insufficient_scope. The caller signs its user in with them, for
//     which it needs the scopes of this API alone: what this API needs further is
//     consented to along with it.
//   - for [tokencache.ErrNoTokens] and what wraps it, 401 with invalid_token: what
//     the caller has sent is worth nothing to the authorization server any more.
//
// Of any other error nothing is written: it is this API's own.
func Challenge(w http.ResponseWriter, err error) bool {
	var needed *tokencache.InteractionRequiredError
	switch {
	case errors.As(err, &needed) && needed.Claims != "":
		(&challenge{status: http.StatusUnauthorized, code: "insufficient_claims", claims: needed.Claims}).write(w)
	case needed != nil:
		(&challenge{status: http.StatusForbidden, code: "insufficient_scope"}).write(w)
	case errors.Is(err, tokencache.ErrNoTokens):
		(&challenge{status: http.StatusUnauthorized, code: "invalid_token"}).write(w)
	default:
		return false
	}
	return true
}

// challenge is an answer that refuses a request, with the challenge of RFC 6750 §3.
type challenge struct {
	status int
	realm  string
	code   string // error; empty if the request had no token
	scopes []string
	claims string // JSON
}

// write sends the answer. It has no description: the codes say it all, and what a
// verifier thinks of a forged token is nobody's business.
func (c *challenge) write(w http.ResponseWriter) {
	h := w.Header()
	if c.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	} else {
		h.Set("WWW-Authenticate", c.text())
	}
	h.Set(cacheControl, "no-store")
	http.Error(w, http.StatusText(c.status), c.status)
}

func (c *challenge) text() string {
	var params []string
	for _, p := range [...][2]string{
		{"realm", c.realm}, {"error", c.code}, {"scope", strings.Join(c.scopes, " ")},
		{"claims", base64.StdEncoding.EncodeToString([]byte(c.claims))},
	} {
		if p[1] != "" {
			params = append(params, p[0]+`="`+p[1]+`"`)
		}
	}
	return strings.TrimRight("Bearer "+strings.Join(params, ", "), " ")
}

// isEnd tells whether the request's context has ended.
func isEnd(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
