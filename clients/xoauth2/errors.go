package xoauth2

import (
	"errors"
	"fmt"
	"slices"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

var (
	// ErrCallback means that the request to the redirect URL does not complete
	// this sign-in: its state is not the session's, the sign-in is too old or was
	// never begun, parameters are missing, repeated or oversized, it comes from
	// another server, or its code was refused, as it is when the callback is
	// repeated. Nothing is wrong with the account. Offer to sign in again; the
	// request may be an attack, so do not do it unasked.
	ErrCallback = errors.New("xoauth2: the callback does not complete this sign-in")

	// ErrDenied means that the user or an administrator said no (access_denied,
	// RFC 6749 §4.1.2.1 and RFC 8628 §3.5).
	ErrDenied = errors.New("xoauth2: the sign-in was denied")

	// ErrOtherUser means that somebody has signed in who is not the user that
	// [SignInOptions.Account] names. Nothing of the answer is used.
	ErrOtherUser = errors.New("xoauth2: another user has signed in than the one who was expected")

	// ErrDeviceCode means that the codes of a [Device] are of no use any more: they
	// have expired, were used before, or the server does not know them. If the
	// server was down when they expired, its *[tokencache.ServerError] is wrapped
	// too. Begin again, when the user wants to.
	ErrDeviceCode = errors.New("xoauth2: the device code has ended")

	// ErrPassword means that the server has refused the user name or the password, and
	// does not say which, or that they are such that no server could accept them. The
	// account may also be locked. Every attempt counts at the server: do not repeat it
	// unasked.
	ErrPassword = errors.New("xoauth2: the user name or the password was refused")

	// ErrIDToken means that an ID token, or the client_info beside it, failed
	// verification (OpenID Connect Core §3.1.3.7): the text names the check.
	// Nothing of the answer is used. In the answer to a refresh it is wrapped in
	// a *[tokencache.ServerError].
	ErrIDToken = errors.New("xoauth2: the ID token is not valid")
)

// ProtocolError means that the authorization server understood a request and
// refused it for a reason that neither the user nor time will mend. Report it to
// whoever runs the application: a secret has expired, a resource does not exist, or
// the registration at the server lacks something. (A refresh for scopes that the
// server does not grant is a *[tokencache.InteractionRequiredError].)
type ProtocolError struct {
	// Code is the server's error code (RFC 6749 §4.1.2.1 and §5.2, RFC 8707
	// §2): invalid_client, unauthorized_client, invalid_scope, invalid_target
	// and so on, or "unreadable" if it is not of letters, digits and "_-.".
	Code string
}

// Error names the code. The server's description may hold personal data.
func (e *ProtocolError) Error() string {
	return "xoauth2: the authorization server refused the request: " + e.Code
}

// oauthError makes an error of an error code: of a token response, or of an
// authorization response. The request is what the user would have to sign in for.
func oauthError(code string, scopes []string, claims string) error {
	switch {
	case isInteraction(code):
		return &tokencache.InteractionRequiredError{Code: code, Scopes: scopes, Claims: claims}
	case code == "server_error" || code == "temporarily_unavailable":
		return &tokencache.ServerError{Err: errors.New(code)}
	}
	return &ProtocolError{Code: cleanCode(code)}
}

// isInteraction tells whether an error code asks for the user (OpenID Connect
// Core §3.1.2.6).
func isInteraction(code string) bool {
	return slices.Contains([]string{
		"interaction_required", "login_required", "consent_required", "account_selection_required",
	}, code)
}

// cleanCode keeps what goes into logs to what error codes are made of.
func cleanCode(code string) string {
	ok := code != "" && len(code) <= 64
	for _, r := range code {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.')
	}
	if !ok {
		return "unreadable"
	}
	return code
}

// isInvalidGrant tells whether the server refused a code or a refresh token.
func isInvalidGrant(err error) bool {
	var p *ProtocolError
	return errors.As(err, &p) && p.Code == "invalid_grant"
}

func badCallback(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCallback, fmt.Sprintf(format, args...))
}

func badIDToken(check string) error { return fmt.Errorf("%w: %s", ErrIDToken, check) }

// errForeign is an answer with another user's tokens.
var errForeign = &tokencache.ServerError{Err: badIDToken("the answer to a refresh is about another user")}

func foreign(err error) bool { return errors.Is(err, errForeign) }

// serverError wraps a failed verification of a refresh for the cache, to which
// it is one more answer that makes no sense.
func serverError(err error) error {
	if errors.Is(err, ErrIDToken) {
		return &tokencache.ServerError{Err: err}
	}
	return err
}
