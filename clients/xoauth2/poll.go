package xoauth2

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	grantDevice = "urn:ietf:params:oauth:grant-type:device_code" // RFC 8628 §3.4
	slowDown    = 5 * time.Second                                // §3.5
)

// CompleteDevice waits until the user has answered, verifies the ID token and stores
// the tokens. The ticket names the user; in a program of one user it is what
// [tokencache.NewContext] needs:
//
//	ctx = tokencache.NewContext(ctx, cache.Partition(ticket.Key()))
//
// It asks the server as often as the server wants to be asked, from once a second to
// once a minute, until ctx or the codes end. A server that is down, or answers
// nonsense, is waited for, with growing pauses (RFC 8628 §3.5). After an error that
// is not about the user or the codes, such as ctx's, it may be called again. Call it
// once at a time.
//
// Errors: [ErrDeviceCode], [ErrDenied], and those of [Client.CompleteSignIn] but for
// ErrCallback. A ServerError comes only after the server has issued tokens.
func (c *Client) CompleteDevice(ctx context.Context, d *Device) (tokencache.Ticket, error) {
	if d == nil || d.pending == nil || d.pending.server != c.cache.Namespace() {
		return tokencache.Ticket{}, errors.New("xoauth2: the Device is not from BeginDevice of this client")
	}
	p := poll{interval: d.pending.interval}
	p.pause = p.interval
	for {
		if err := p.wait(ctx, d.Expires); err != nil {
			return tokencache.Ticket{}, err
		}
		ticket, err := c.askDevice(ctx, d.pending)
		var again *pollError
		if !errors.As(err, &again) {
			return ticket, err
		}
		p.slower(again)
	}
}

// askDevice asks once. Each question is a sign-in of its own for the cache, so that
// signing out while the user still types the code does not end this sign-in.
func (c *Client) askDevice(ctx context.Context, d *pendingDevice) (tokencache.Ticket, error) {
	exchange := func(ctx context.Context) (tokencache.Grant, error) {
		req := &tokencache.Request{Scopes: d.scopes}
		g, r, err := c.request(ctx, req, url.Values{"grant_type": {grantDevice}, "device_code": {d.code()}})
		if err != nil {
			return tokencache.Grant{}, deviceError(err, g.AccessToken != "")
		}
		id, err := c.user(ctx, r)
		if err != nil {
			return tokencache.Grant{}, err
		}
		return r.signedIn(g, id, d.scopes), nil
	}
	if d.session != "" {
		return c.cache.SignInSession(ctx, d.session, exchange)
	}
	return c.cache.SignIn(ctx, exchange)
}

// pollError says that the server may be asked again: it has no answer yet, or could
// not give one.
type pollError struct {
	tooFast bool
	down    *tokencache.ServerError // or nil
}

func (e *pollError) Error() string { return "xoauth2: the user has not answered yet" }

// deviceError sorts an error of the token endpoint (RFC 8628 §3.5). Entra ID has
// names of its own for some.
func deviceError(err error, issued bool) error {
	var refused *ProtocolError
	var down *tokencache.ServerError
	switch {
	case errors.As(err, &down) && !issued:
		return &pollError{down: down}
	case !errors.As(err, &refused):
		return err
	}
	switch refused.Code {
	case "authorization_pending":
		return &pollError{}
	case "slow_down":
		return &pollError{tooFast: true}
	case "access_denied", "authorization_declined":
		return ErrDenied
	case "expired_token", "code_expired":
		return fmt.Errorf("%w: it has expired", ErrDeviceCode)
	case "invalid_grant", "bad_verification_code":
		return fmt.Errorf("%w: the authorization server does not know it, or it was used before", ErrDeviceCode)
	}
	return err
}

// poll is the rhythm of the questions.
type poll struct {
	interval time.Duration // between questions that are answered
	pause    time.Duration // before the next question
	down     error         // of the last question, if the server had no answer
}

// slower sets the pause after a question.
func (p *poll) slower(e *pollError) {
	if e.tooFast {
		p.interval = min(p.interval+slowDown, maxDeviceInterval)
	}
	if p.down = nil; e.down == nil {
		p.pause = p.interval
		return
	}
	p.down = e.down
	p.pause = min(max(2*p.pause, e.down.RetryAfter), maxDeviceInterval)
}

// wait returns when it is time for the next question.
func (p *poll) wait(ctx context.Context, expires time.Time) error {
	timer := time.NewTimer(min(p.pause, time.Until(expires)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("xoauth2: waiting for the user to answer: %w", ctx.Err())
	case <-timer.C:
	}
	switch {
	case time.Now().Before(expires):
		return nil
	case p.down != nil:
		return fmt.Errorf("%w: it has expired, and the last answer was: %w", ErrDeviceCode, p.down)
	}
	return fmt.Errorf("%w: it has expired", ErrDeviceCode)
}
