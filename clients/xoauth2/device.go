package xoauth2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Bounds of what a server says about a device code.
const (
	maxDeviceCode     = 8 << 10 // bytes; Entra ID's have some hundred
	maxUserCode       = 256     // bytes
	maxVerification   = 2 << 10 // bytes
	maxDeviceLife     = 24 * time.Hour
	minDeviceInterval = time.Second
	maxDeviceInterval = time.Minute
	deviceInterval    = 5 * time.Second // unless the server says another (RFC 8628 §3.2)
)

// DeviceOptions are the parameters of a sign-in on a device. The zero value of each
// field leaves the parameter out.
type DeviceOptions struct {
	// Scopes are asked for before those of [Options].
	Scopes []string
	// Claims is a claims request, a JSON object (OpenID Connect Core §5.5), for
	// instance that of a [tokencache.InteractionRequiredError].
	Claims string
	// Session is that of [SignInOptions].
	Session string
}

// Device is a sign-in on a device without a browser, or without one that could come
// back, from [Client.BeginDevice] to [Client.CompleteDevice]. It lives in the
// process that has begun it. Its fields are to be shown to the user; whoever else
// enters the code signs in to this device with another account.
type Device struct {
	// UserCode is what the user enters at VerificationURI, in another browser:
	// printable characters, at most 256 bytes.
	UserCode string
	// VerificationURI is where: an absolute https URL, or http where the issuer is,
	// of at most 2 KiB. It may be on any host.
	VerificationURI string
	// VerificationURIComplete is the same with the code in it, for a QR code; "" if
	// the server gave none, or one that is no such URL.
	VerificationURIComplete string
	// Expires is when the codes end.
	Expires time.Time

	pending *pendingDevice
}

// pendingDevice is what is not for the user.
type pendingDevice struct {
	code     func() string // the device code; of a function fmt prints the address, whatever the verb
	server   tokencache.Namespace
	scopes   []string
	session  string
	interval time.Duration
}

// deviceResponse is the answer of RFC 8628 §3.2. Google has its own name for
// verification_uri.
type deviceResponse struct {
	DeviceCode   string  `json:"device_code"`
	UserCode     string  `json:"user_code"`
	Verification string  `json:"verification_uri"`
	Google       string  `json:"verification_url"`
	Complete     string  `json:"verification_uri_complete"`
	ExpiresIn    seconds `json:"expires_in"`
	Interval     seconds `json:"interval"`

	Error string `json:"error"`
}

// BeginDevice asks for the codes of a sign-in on a device (RFC 8628 §3.1). Show the
// user the code and the URL, and then call [Client.CompleteDevice]. A nil o means
// no parameters. [Options.RedirectURL] is not needed.
//
// Show the code only to somebody who is in front of the device. A stranger who gets
// one, and has a user enter it, gets that user's tokens (RFC 8628 §5.4).
//
// Errors: one that is [errors.ErrUnsupported] if the server has no such endpoint;
// *[ProtocolError], *[tokencache.ServerError], and ctx's.
func (c *Client) BeginDevice(ctx context.Context, o *DeviceOptions) (*Device, error) {
	if o == nil {
		o = &DeviceOptions{}
	}
	switch {
	case c.meta.Device == "":
		return nil, fmt.Errorf("xoauth2: the authorization server signs in no devices: %w", errors.ErrUnsupported)
	case o.Claims != "" && !isJSONObject(o.Claims):
		return nil, errors.New("xoauth2: DeviceOptions.Claims is not a JSON object")
	}
	if err := checkScopes(o.Scopes); err != nil {
		return nil, err
	}
	scopes := union(o.Scopes, c.scopes)
	form := url.Values{
		"client_id": {c.config.ClientID}, // beside a secret in the header too: Entra ID looks for it here
		"scope":     {strings.Join(union(c.basic, scopes), " ")},
	}
	claims, err := withCapability(o.Claims, c.cae)
	if err != nil {
		return nil, err
	}
	if claims != "" {
		form.Set("claims", claims)
	}
	began := time.Now()
	a, err := c.postToken(ctx, c.meta.Device, &tokencache.Request{Scopes: scopes, Claims: o.Claims, CAE: c.cae}, form)
	if err != nil {
		return nil, err
	}
	var r deviceResponse
	bad := json.Unmarshal(a.body, &r)
	if !a.ok() || r.Error != "" {
		return nil, a.deviceFailure(&r, scopes, o.Claims)
	}
	d, err := c.device(&r, began)
	if bad != nil || err != nil {
		return nil, malformed("the device authorization response is not what RFC 8628 describes")
	}
	d.pending.scopes, d.pending.session = scopes, o.Session
	return d, nil
}

func (a *answer) deviceFailure(r *deviceResponse, scopes []string, claims string) error {
	if a.status == http.StatusTooManyRequests || a.status >= 500 || a.status/100 == 3 || r.Error == "" {
		return a.unavailable("device authorization endpoint")
	}
	return oauthError(r.Error, scopes, claims)
}

var errDeviceResponse = errors.New("xoauth2: not a device authorization")

// device checks what the server sent: it will be shown to a person, perhaps on a
// terminal or as a link.
func (c *Client) device(r *deviceResponse, began time.Time) (*Device, error) {
	if r.Verification == "" {
		r.Verification = r.Google
	}
	switch {
	case r.DeviceCode == "" || len(r.DeviceCode) > maxDeviceCode,
		r.UserCode == "" || len(r.UserCode) > maxUserCode || strings.ContainsFunc(r.UserCode, unprintable),
		!c.meta.mayShow(r.Verification),
		r.ExpiresIn == 0:
		return nil, errDeviceResponse
	}
	if !c.meta.mayShow(r.Complete) {
		r.Complete = ""
	}
	interval := deviceInterval
	if r.Interval > 0 {
		interval = r.Interval.duration()
	}
	return &Device{
		UserCode: r.UserCode, VerificationURI: r.Verification, VerificationURIComplete: r.Complete,
		Expires: began.Add(min(r.ExpiresIn.duration(), maxDeviceLife)),
		pending: &pendingDevice{
			code:     func() string { return r.DeviceCode },
			server:   c.cache.Namespace(),
			interval: min(max(interval, minDeviceInterval), maxDeviceInterval),
		},
	}, nil
}

// unprintable are control characters too, and what turns the direction of text.
func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// mayShow tells whether a URL from the server may be shown as a link: it leads to a
// web page, no less protected than the metadata, and looks like where it leads.
func (m *metadata) mayShow(text string) bool {
	u, err := url.Parse(text)
	switch {
	case err != nil || text == "" || len(text) > maxVerification,
		u.Host == "" || u.User != nil || u.Opaque != "",
		strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"<>\\`", r) }):
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && strings.HasPrefix(m.Issuer, "http:")
}
