package xoauth2

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

const (
	assertionType    = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523 §2.2
	assertionTimeout = 10 * time.Second                                         // with a request's, it is less than the cache waits for both
	maxAssertion     = 16 << 10
)

// authenticate adds to the form who this client is, and the proof of it that
// belongs there: the secret as RFC 6749 §2.3.1 has it, or an assertion (RFC 7523
// §2.2). Basic says that the secret belongs into the header instead.
//
// What the server announces decides between basic and post only. An assertion is
// sent also where private_key_jwt is not announced: Azure AD B2C takes it and
// does not say so, and nothing else could be sent.
func (c *Client) authenticate(ctx context.Context, endpoint string, inBody bool, form url.Values) (basic bool, err error) {
	secret := c.secret()
	if basic = secret != "" && !inBody; basic {
		return true, nil
	}
	form.Set("client_id", c.config.ClientID)
	switch {
	case secret != "":
		form.Set("client_secret", secret)
	case c.assertion != nil:
		text, err := c.assert(ctx, c.meta.audience(endpoint))
		if err != nil {
			return false, err
		}
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", text)
	}
	return false, nil
}

// confidential tells whether the client can prove who it is.
func (c *Client) confidential() bool {
	return c.secret() != "" || c.assertion != nil || c.exchanger != nil // which knows better
}

// assert calls [Options.ClientAssertion].
func (c *Client) assert(ctx context.Context, audience string) (string, error) {
	own, cancel := context.WithTimeout(ctx, assertionTimeout)
	defer cancel()
	text, err := c.assertion(own, audience)
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("xoauth2: waiting for the client assertion: %w", ctx.Err())
	case err != nil && own.Err() != nil:
		return "", errors.New("xoauth2: Options.ClientAssertion took longer than 10 seconds")
	case err != nil:
		return "", &assertionError{err}
	case !isCompactJWS(text):
		return "", errors.New("xoauth2: Options.ClientAssertion returned something else than a signed JWT of at most 16 KiB")
	}
	return text, nil
}

// assertionError is a failure of [Options.ClientAssertion]. It does not repeat
// the text of its cause, which comes from code that handles keys.
type assertionError struct{ err error }

func (e *assertionError) Error() string { return "xoauth2: Options.ClientAssertion failed" }

// Unwrap returns the cause, unless it could be taken for an answer about the
// user, or for the end of the caller's context: the application may get its
// assertions through a client and a cache too, and what those say of other
// tokens must not sign anybody out.
func (e *assertionError) Unwrap() error {
	var interaction *tokencache.InteractionRequiredError
	var refused *ProtocolError
	if errors.As(e.err, &interaction) || errors.As(e.err, &refused) {
		return nil
	}
	for _, target := range []error{tokencache.ErrNoTokens, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(e.err, target) {
			return nil
		}
	}
	return e.err
}

// isCompactJWS tells whether the text has the form of a signed JWT (RFC 7515
// §7.1). A line break behind it, from a file, would be refused by the server
// without a word about why.
func isCompactJWS(text string) bool {
	parts := strings.Split(text, ".")
	if len(text) > maxAssertion || len(parts) != 3 {
		return false
	}
	for _, p := range parts {
		if p == "" || strings.ContainsFunc(p, notBase64URL) {
			return false
		}
	}
	return true
}

func notBase64URL(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// audience returns what an assertion for an endpoint names as its audience: the
// token endpoint (OpenID Connect Core §9), which is the tenant's own where the
// server has tenants.
func (m *metadata) audience(endpoint string) string {
	if endpoint == m.Revocation || endpoint == m.Device {
		return m.Token
	}
	return endpoint
}
