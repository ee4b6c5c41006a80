package tokencache

import (
	"errors"
	"fmt"
	"time"
)

// Errors of providers. See [Provider] for when they are returned; a provider
// may wrap them.
var (
	// ErrNotFound means that nothing is stored under the name.
	ErrNotFound = errors.New("tokencache: not found")
	// ErrConflict means that the condition of a save does not hold.
	ErrConflict = errors.New("tokencache: conflict: the stored version is another")
	// ErrTooLarge means that the tokens of one partition exceed [MaxTokensSize].
	ErrTooLarge = errors.New("tokencache: too large")
	// ErrBusy means that another machine holds the lease on the partition for
	// longer than this caller could wait. Try again.
	ErrBusy = errors.New("tokencache: busy: another machine is refreshing these tokens")
	// ErrUnavailable means that the storage provider could not answer. It says
	// nothing about the user: nobody is signed out because of it. It wraps the
	// provider's error.
	ErrUnavailable = errors.New("tokencache: the token store is unavailable")
)

// ErrNoTokens means that the user has no usable tokens: never signed in, expired,
// evicted, removed, refused by the authorization server, or signed in anew
// since the session was made. The application chooses whether to ask the user
// to sign in again or to end the session.
//
// [ErrRemoved], [ErrUnreadable] and [ErrInvalidGrant] are more exact: errors.Is
// finds ErrNoTokens in them as well.
var ErrNoTokens = errors.New("tokencache: no tokens: sign in again")

// What [ErrNoTokens] means more exactly.
var (
	// ErrRemoved means that the partition was removed: the user signed out.
	ErrRemoved = fmt.Errorf("%w: signed out", ErrNoTokens)
	// ErrUnreadable means that the stored record does not open: it was sealed
	// with a key that this process does not have, or was altered or moved. It is
	// kept; a new sign-in replaces it.
	ErrUnreadable = fmt.Errorf("%w: the stored record does not open with any key of the ring", ErrNoTokens)
	// ErrInvalidGrant means that the authorization server refused the refresh
	// token for good (invalid_grant, RFC 6749 §5.2): expired, revoked or used
	// before. A [Server] returns it, wrapped or not.
	ErrInvalidGrant = fmt.Errorf("%w: the authorization server refused the refresh token", ErrNoTokens)
)

// InteractionRequiredError means that the authorization server will issue the
// token only after the user has done something in a browser: consented,
// stepped up to a second factor, or chosen an account. The application starts a
// sign-in with the scopes and claims of the error. A [Server] returns it.
type InteractionRequiredError struct {
	// Code is the server's error code: interaction_required, login_required,
	// consent_required or account_selection_required (OpenID Connect Core
	// §3.1.2.6), or insufficient_scope where it granted less than was asked.
	Code string
	// Scopes are those that the sign-in must ask for.
	Scopes []string
	// Claims is the claims request that the sign-in must carry, a JSON object
	// (OpenID Connect Core §5.5); empty if the server sent none.
	Claims string
}

// Error names the code only: claims and scopes may be long and are not for logs.
func (e *InteractionRequiredError) Error() string {
	return "tokencache: the user must act: " + e.Code
}

// ServerError means that the authorization server could not answer: it is down,
// slow, overloaded, or its answer made no sense. What is stored stays. (Where the
// server had rotated the refresh token, and that answer was lost on its way, the
// stored one is spent: the next refresh ends with [ErrInvalidGrant].) A [Server]
// returns it.
type ServerError struct {
	// RetryAfter is how long the server asked to wait (RFC 9110 §10.2.3); zero
	// if it did not say.
	RetryAfter time.Duration
	// Err is the cause, without secrets.
	Err error
}

// Error returns the cause.
func (e *ServerError) Error() string {
	return fmt.Sprintf("tokencache: the authorization server is unavailable: %v", e.Err)
}

// Unwrap returns the cause.
func (e *ServerError) Unwrap() error { return e.Err }
