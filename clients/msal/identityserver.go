package msal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	msalerrors "github.com/AzureAD/microsoft-authentication-library-for-go/apps/errors"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	// identityTimeout ends MSAL's attempts, which are three with a second between
	// them, each of which may take a minute.
	identityTimeout = 10 * time.Second
	// skipOwnCache are the claims of a request that has none. MSAL keeps managed
	// identities' tokens in a cache of the process, in which it would find the very one
	// that is refused, or has been dropped. It does not look there for a request with
	// claims, and does nothing else with them.
	skipOwnCache = "{}"

	maxIdentityLife = 10 * 365 * 24 * time.Hour
	maxRetryAfter   = time.Hour
)

// identityServer obtains tokens of one identity for one resource.
type identityServer struct {
	client   managedidentity.Client
	resource string
}

var _ tokencache.Server = (*identityServer)(nil)

// Refresh asks the platform.
func (s *identityServer) Refresh(ctx context.Context, _ tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	var last attempt
	own, cancel := context.WithTimeout(context.WithValue(ctx, attemptKey{}, &last), identityTimeout)
	defer cancel()
	result, err := s.client.AcquireToken(own, s.resource, managedidentity.WithClaims(cmp.Or(req.Claims, skipOwnCache)))
	now := time.Now()
	switch {
	case err != nil && ctx.Err() != nil:
		return tokencache.Grant{}, fmt.Errorf("msal: waiting for the managed identity: %w", ctx.Err())
	case err != nil && own.Err() != nil:
		return tokencache.Grant{}, nonsense("no answer in time")
	case err != nil:
		return tokencache.Grant{}, last.failure(err)
	case result.AccessToken == "" || !result.ExpiresOn.After(now):
		return tokencache.Grant{}, nonsense("the answer has no token that is valid")
	case req.Refused != "" && result.AccessToken == string(req.Refused):
		return tokencache.Grant{}, nonsense("it still gives out the token that was refused")
	}
	g := tokencache.Grant{AccessToken: tokencache.Secret(result.AccessToken), Expires: result.ExpiresOn}
	if end := now.Add(maxIdentityLife); g.Expires.After(end) {
		g.Expires = end
	}
	if on := result.Metadata.RefreshOn; on.Before(g.Expires) {
		g.RefreshOn = on
	}
	return g, nil
}

// Revoke does nothing: there is no refresh token.
func (*identityServer) Revoke(context.Context, tokencache.Secret) error { return nil }

func nonsense(what string) error {
	return &tokencache.ServerError{Err: errors.New("managed identity: " + what)}
}

// failure sorts MSAL's error, whose text repeats the platform's answer, by what the last
// attempt came to.
func (a *attempt) failure(err error) error {
	var answered msalerrors.CallErr
	var notJSON msalerrors.InvalidJsonErr
	switch {
	case a.err != nil:
		return a.err
	case a.status == 0:
		return &identityError{err}
	case a.status == http.StatusRequestTimeout, a.status == http.StatusTooManyRequests, a.status >= 500, a.status/100 == 3,
		a.status == http.StatusNotFound, a.status == http.StatusGone: // while a virtual machine's is being updated
		return &tokencache.ServerError{
			RetryAfter: retryAfter(a.retryAfter, time.Now()),
			Err:        fmt.Errorf("managed identity: status %d", a.status),
		}
	case errors.As(err, &answered):
		return fmt.Errorf("msal: the platform has no token for this managed identity (status %d): "+
			"assign the identity to this machine, or check the ID of a user-assigned one, and check the resource", a.status)
	case errors.As(err, &notJSON):
		return nonsense("the answer is not a token response")
	}
	return &identityError{err}
}

// identityError says that MSAL gave up for a reason of its own, without repeating it: it
// may come from a header or a file.
type identityError struct{ err error }

func (*identityError) Error() string {
	return "msal: MSAL obtained no token of the managed identity: something of this machine is not as it expects"
}

func (e *identityError) Unwrap() error { return e.err }

// retryAfter reads the header of that name (RFC 9110 §10.2.3): seconds or a date. What is
// not understood counts as absent.
func retryAfter(value string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		d = time.Duration(n) * time.Second // #nosec G115 -- 31 bits
	} else if at, err := http.ParseTime(value); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
