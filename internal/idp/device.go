package idp

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	grantDeviceCode      = "urn:ietf:params:oauth:grant-type:device_code" // RFC 8628 §3.4
	grantDeviceCodeEntra = "device_code"                                  // what MSAL Go sends

	deviceMemory   = 2 * maxDeviceLifetime // how long an expired code is recognised
	slowDown       = 5 * time.Second       // RFC 8628 §3.5
	userCodeLength = 8

	// userCodeLetters spell no words and are hard to confuse (RFC 8628 §6.1).
	userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"
)

// device is a device authorization and what became of it.
type device struct {
	issuer   string
	userCode string
	claims   bool // the request has a claims parameter
	expires  time.Time
	interval time.Duration
	polled   time.Time // zero: never
	state    deviceState
	session  session
}

type deviceState int

const (
	devicePending deviceState = iota
	deviceApproved
	deviceDenied
	deviceRedeemed
)

var errUserCode = errors.New("the code is not known, has expired or was answered already")

// deviceResponse is the answer of RFC 8628 §3.2, with Entra ID's message.
type deviceResponse struct {
	DeviceCode      string `json:"device_code"`
	UserCode        string `json:"user_code"`
	Verification    string `json:"verification_uri"`
	VerificationAll string `json:"verification_uri_complete"`
	ExpiresIn       int64  `json:"expires_in"`
	Interval        int64  `json:"interval"`
	Message         string `json:"message,omitempty"`
}

// deviceAuthorization is the device authorization endpoint (RFC 8628 §3.1).
func (s *Server) deviceAuthorization(w http.ResponseWriter, r *http.Request, rm *realm) {
	e := checkForm(r)
	if e != nil {
		writeError(w, r, e)
		return
	}
	client, e := s.authenticate(r, rm)
	if e != nil {
		writeError(w, r, e)
		return
	}
	g := &grant{form: r.PostForm}
	if e = g.parse(); e == nil {
		e = g.checkClaims()
	}
	if e != nil {
		writeError(w, r, e)
		return
	}
	d := &device{
		issuer: rm.issuer, claims: demanding(g.form.Get("claims")), interval: s.opts.DeviceInterval, expires: time.Now().Add(s.opts.DeviceLifetime),
		session: session{clientID: client.ID, scopes: g.scopes, resource: g.resource},
	}
	resp := deviceResponse{
		DeviceCode: s.store.startDevice(d), UserCode: d.userCode, Verification: s.url + "/device",
		ExpiresIn: int64(s.opts.DeviceLifetime / time.Second), Interval: int64(d.interval / time.Second),
	}
	resp.VerificationAll = resp.Verification + "?" + url.Values{"user_code": {d.userCode}}.Encode()
	if rm.entra {
		resp.Message = "To sign in, open " + resp.Verification + " in a browser and enter the code " + resp.UserCode + "."
	}
	writeJSON(w, http.StatusOK, resp)
}

// deviceCode is the grant that a device polls with (RFC 8628 §3.4).
func (s *Server) deviceCode(g *grant) *oauthError {
	if e := g.parse(); e != nil {
		return e
	}
	value := g.form.Get("device_code")
	if value == "" {
		return badRequest("invalid_request", "device_code is missing")
	}
	sess, e := s.store.poll(value, g.client.ID, g.realm)
	if e != nil {
		return e
	}
	g.use(sess)
	offline := slices.Contains(g.scopes, "offline_access") || slices.Contains(sess.scopes, "offline_access")
	if offline && g.fault != kindNoRefreshToken {
		g.refresh = s.store.refreshToken(sess.familyID, 0)
	}
	return s.store.checkConsent(g)
}

// ApproveDevice signs a user in on the device that shows a user code, as the user
// would on the page at verification_uri. The error is that of a name that cannot be
// a user's, or of a code that does not wait for an answer.
func (s *Server) ApproveDevice(userCode, name string) error {
	u, err := parseUser(name)
	if err != nil {
		return fmt.Errorf("idp: %w", err)
	}
	if _, ok := s.store.waiting(userCode); !ok { // before there is a session
		return fmt.Errorf("idp: %w", errUserCode)
	}
	if err := s.store.approve(userCode, u, s.store.startLogin("", u).sid); err != nil {
		return fmt.Errorf("idp: %w", err)
	}
	return nil
}

// DenyDevice refuses the device that shows a user code. The error is that of a
// code that does not wait for an answer.
func (s *Server) DenyDevice(userCode string) error {
	if err := s.store.deny(userCode); err != nil {
		return fmt.Errorf("idp: %w", err)
	}
	return nil
}

// startDevice gives d its user code and returns its device code.
func (st *store) startDevice(d *device) string {
	value := marker + rand.Text()
	st.mu.Lock()
	defer st.mu.Unlock()
	for d.userCode == "" || st.waitingLocked(d.userCode) != nil {
		d.userCode = newUserCode()
	}
	st.devices.put(value, d)
	st.userCodes.put(bareUserCode(d.userCode), d)
	return value
}

// waiting returns a copy of the authorization that a user code stands for, if it
// waits for an answer.
func (st *store) waiting(userCode string) (device, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if d := st.waitingLocked(userCode); d != nil {
		return *d, true
	}
	return device{}, false
}

func (st *store) waitingLocked(userCode string) *device {
	d, ok := st.userCodes.get(bareUserCode(userCode))
	if !ok || d.state != devicePending || !time.Now().Before(d.expires) {
		return nil
	}
	return d
}

func (st *store) approve(userCode string, u user, sid string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	d := st.waitingLocked(userCode)
	if d == nil {
		return errUserCode
	}
	d.state = deviceApproved
	d.session.user, d.session.sid, d.session.authTime = u, sid, time.Now()
	d.session.familyID = marker + rand.Text()
	st.stats.SignIns++
	if st.askConsent { // the page lists them
		st.consentLocked(u, d.session.clientID, permissions(d.session.resource, d.session.scopes))
	}
	if d.claims {
		st.demands.remove(u.key)
	}
	return nil
}

func (st *store) deny(userCode string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	d := st.waitingLocked(userCode)
	if d == nil {
		return errUserCode
	}
	d.state = deviceDenied
	return nil
}

// poll answers a device (RFC 8628 §3.5), on the tenant's realm in the words of
// Entra ID where they differ. A device that asks too often while it waits has to
// slow down, by 5 seconds every time.
func (st *store) poll(value, clientID string, rm *realm) (session, *oauthError) {
	st.mu.Lock()
	defer st.mu.Unlock()
	d, ok := st.devices.get(value)
	if !ok || d.session.clientID != clientID || d.issuer != rm.issuer || d.state == deviceRedeemed {
		return session{}, deviceError(rm, "invalid_grant", "bad_verification_code", 70000, "the device code is not known to this issuer for this client, or was used")
	}
	now := time.Now()
	early := !d.polled.IsZero() && now.Sub(d.polled) < d.interval-d.interval/10 // timers are not exact
	d.polled = now
	switch {
	case d.state == deviceDenied:
		return session{}, deviceError(rm, "access_denied", "authorization_declined", 70018, "the user refused")
	case !now.Before(d.expires):
		return session{}, deviceError(rm, "expired_token", "expired_token", 70020, "the device code has expired")
	case d.state == devicePending && early:
		d.interval += slowDown
		return session{}, badRequest("slow_down", "the device asks too often")
	case d.state == devicePending:
		return session{}, deviceError(rm, "authorization_pending", "authorization_pending", 70016, "the user has not answered yet")
	}
	d.state = deviceRedeemed
	st.families.put(d.session.familyID, &family{session: d.session})
	return d.session, nil
}

func deviceError(rm *realm, code, entraCode string, aadsts int, description string) *oauthError {
	e := invalidGrant(aadsts, description)
	if e.code = code; rm.entra {
		e.code = entraCode
	}
	return e
}

// newUserCode returns a code such as WDJB-MJHT.
func newUserCode() string {
	var b strings.Builder
	one := make([]byte, 1)
	for b.Len() < userCodeLength {
		_, _ = rand.Read(one)                           // never fails: crypto/rand documents that it crashes instead
		if int(one[0]) < 256-256%len(userCodeLetters) { // the rest would make some letters more likely
			b.WriteByte(userCodeLetters[int(one[0])%len(userCodeLetters)])
		}
	}
	s := b.String()
	return s[:userCodeLength/2] + "-" + s[userCodeLength/2:]
}

// bareUserCode is a user code without what a person may add or change.
func bareUserCode(s string) string {
	if len(s) > 4*userCodeLength {
		return ""
	}
	return strings.NewReplacer("-", "", " ", "").Replace(strings.ToUpper(s))
}
