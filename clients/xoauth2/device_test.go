package xoauth2_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const home = "11111111-2222-3333-4444-555555555555" // a tenant

// codes is a device authorization response.
func codes(members map[string]any) map[string]any {
	body := map[string]any{
		"device_code": "marker-device-code", "user_code": "WDJB-MJHT", "verification_uri": "https://login.example/device",
		"expires_in": 900, "interval": 5,
	}
	maps.Copy(body, members)
	return body
}

// newDeviceFake is a fake with a device authorization endpoint.
func newDeviceFake(t *testing.T, tenant string) *fake {
	t.Helper()
	f := newFake(t, tenant)
	f.metadata["device_authorization_endpoint"] = f.URL + "/device"
	return f
}

// device begins a sign-in whose server answers with the members.
func (f *fake) device(t *testing.T, c *xoauth2.Client, members map[string]any) (*xoauth2.Device, error) {
	t.Helper()
	f.answer(reply{body: codes(members)})
	return c.BeginDevice(t.Context(), nil)
}

func (f *fake) mustDevice(t *testing.T, c *xoauth2.Client, members map[string]any) *xoauth2.Device {
	t.Helper()
	d, err := f.device(t, c, members)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func oauthFailure(code string) reply {
	return reply{status: 400, body: map[string]any{"error": code, "error_description": "marker description"}}
}

func TestBeginDevice(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]*xoauth2.Options{
		"public": {}, "secret": {ClientSecret: "marker-secret"}, "assertion": {ClientAssertion: (&told{}).assert},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newDeviceFake(t, "")
			o.Scopes, o.HTTPClient = []string{"read"}, httpClient(t) // and no RedirectURL
			c := newClient(t, newCache(t, f.issuer(), nil), o)
			f.answer(reply{body: codes(map[string]any{"verification_uri_complete": "https://login.example/device?user_code=WDJB-MJHT"})})
			d, err := c.BeginDevice(t.Context(), &xoauth2.DeviceOptions{Scopes: []string{"write", "read"}, Claims: `{"a":null}`})
			if err != nil {
				t.Fatal(err)
			}
			if d.UserCode != "WDJB-MJHT" || d.VerificationURI != "https://login.example/device" ||
				d.VerificationURIComplete != d.VerificationURI+"?user_code=WDJB-MJHT" {
				t.Errorf("got %+v", d)
			}
			if left := time.Until(d.Expires); left > 15*time.Minute || left < 14*time.Minute {
				t.Errorf("it ends in %v, want 15 minutes", left)
			}
			r := f.last(t)
			form := r.PostForm
			if form.Get("scope") != "openid offline_access write read" || form.Get("claims") != `{"a":null}` || form.Get("client_id") != idp.DefaultClientID {
				t.Errorf("sent the scopes %q, the claims %q", form.Get("scope"), form.Get("claims"))
			}
			_, password, basic := r.BasicAuth()
			if basic != (name == "secret") || basic && password != "marker-secret" || form.Has("client_assertion") != (name == "assertion") {
				t.Errorf("basic %v, assertion %v", basic, form.Has("client_assertion"))
			}
		})
	}
}

// TestDeviceAnswers: what the server says is shown to a person, and decides how
// long and how often it is asked.
func TestDeviceAnswers(t *testing.T) {
	t.Parallel()
	f := newDeviceFake(t, "")
	_, c := f.client(t, nil)
	long := strings.Repeat("a", 9<<10)
	for name, tt := range map[string]struct {
		members map[string]any
		bad     bool
	}{
		"as it should be":       {},
		"spaces in the code":    {members: map[string]any{"user_code": "GQVQ 1234"}},
		"no interval":           {members: map[string]any{"interval": nil}},
		"negative interval":     {members: map[string]any{"interval": -5}},
		"interval of text":      {members: map[string]any{"interval": "5"}},
		"enormous interval":     {members: map[string]any{"interval": 1e300}},
		"interval of a list":    {members: map[string]any{"interval": []int{1}}},
		"life of text":          {members: map[string]any{"expires_in": "900"}},
		"Google":                {members: map[string]any{"verification_uri": nil, "verification_url": "https://google.example/device"}},
		"no device code":        {members: map[string]any{"device_code": ""}, bad: true},
		"device code, number":   {members: map[string]any{"device_code": 5}, bad: true},
		"device code, huge":     {members: map[string]any{"device_code": "marker" + long}, bad: true},
		"no user code":          {members: map[string]any{"user_code": nil}, bad: true},
		"user code, list":       {members: map[string]any{"user_code": []string{"marker"}}, bad: true},
		"user code, huge":       {members: map[string]any{"user_code": long}, bad: true},
		"user code, terminal":   {members: map[string]any{"user_code": "\x1b[2Jmarker"}, bad: true},
		"user code, lines":      {members: map[string]any{"user_code": "A\nB"}, bad: true},
		"user code, turned":     {members: map[string]any{"user_code": "A\u202eB"}, bad: true},
		"no URL":                {members: map[string]any{"verification_uri": nil}, bad: true},
		"URL, number":           {members: map[string]any{"verification_uri": 7}, bad: true},
		"URL, text":             {members: map[string]any{"verification_uri": "the usual page"}, bad: true},
		"URL, relative":         {members: map[string]any{"verification_uri": "/device"}, bad: true},
		"URL without a host":    {members: map[string]any{"verification_uri": "https:///device"}, bad: true},
		"URL, javascript":       {members: map[string]any{"verification_uri": "javascript:alert(1)"}, bad: true},
		"URL, javascript, host": {members: map[string]any{"verification_uri": "javascript://login.example/%0aalert(1)"}, bad: true},
		"URL, data":             {members: map[string]any{"verification_uri": "data:text/html,<script>"}, bad: true},
		"URL, another's name":   {members: map[string]any{"verification_uri": "https://login.example@evil.example/"}, bad: true},
		"URL, quotes":           {members: map[string]any{"verification_uri": `https://login.example/"onclick="a`}, bad: true},
		"URL, terminal":         {members: map[string]any{"verification_uri": "https://login.example/\x1b[2J"}, bad: true},
		"URL, looks like":       {members: map[string]any{"verification_uri": "https://lоgin.example/"}, bad: true}, // Cyrillic
		"URL, huge":             {members: map[string]any{"verification_uri": "https://login.example/" + long}, bad: true},
		"no life":               {members: map[string]any{"expires_in": nil}, bad: true},
		"negative life":         {members: map[string]any{"expires_in": -900}, bad: true},
		"life, no number":       {members: map[string]any{"expires_in": "soon"}, bad: true},
	} {
		d, err := f.device(t, c, tt.members)
		var down *tokencache.ServerError
		if errors.As(err, &down) != tt.bad || (err == nil) == tt.bad {
			t.Errorf("%s: got %v", name, err)
		}
		if err == nil && (time.Until(d.Expires) > 15*time.Minute || d.VerificationURIComplete != "") {
			t.Errorf("%s: got %+v", name, d)
		}
		clean(t, err, "marker", "evil")
	}
	for _, complete := range []any{"javascript:alert(1)", "/device", "https://a@b/", ""} {
		d, err := f.device(t, c, map[string]any{"verification_uri_complete": complete})
		if err != nil || d.VerificationURIComplete != "" {
			t.Errorf("%v: got %v", complete, err)
		}
	}
	d := f.mustDevice(t, c, map[string]any{"expires_in": 1e300})
	if left := time.Until(d.Expires); left > 24*time.Hour {
		t.Errorf("it ends in %v, want a day at most", left)
	}
}

func TestBeginDeviceErrors(t *testing.T) {
	t.Parallel()
	f := newDeviceFake(t, "")
	_, c := f.client(t, nil)
	for name, tt := range map[string]struct {
		reply    reply
		protocol string
		retry    time.Duration
	}{
		"refused":     {reply: oauthFailure("unauthorized_client"), protocol: "unauthorized_client"},
		"status 200":  {reply: reply{200, nil, map[string]any{"error": "invalid_scope"}}, protocol: "invalid_scope"},
		"forged code": {reply: oauthFailure("marker\nline"), protocol: "unreadable"},
		"down":        {reply: reply{503, http.Header{"Retry-After": {"7"}}, "marker"}, retry: 7 * time.Second},
		"too many":    {reply: reply{429, http.Header{"Retry-After": {"3"}}, map[string]any{"error": "slow_down"}}, retry: 3 * time.Second},
		"lost":        {reply: reply{404, nil, "marker <html>"}},
		"no JSON":     {reply: reply{200, nil, "marker <html>"}},
		"a list":      {reply: reply{200, nil, []string{"marker"}}},
		"huge":        {reply: reply{200, nil, `{"device_code":"marker` + strings.Repeat("a", 1<<20) + `"}`}},
		"redirect":    {reply: reply{307, http.Header{"Location": {f.URL + "/stolen"}}, ""}},
	} {
		f.answer(tt.reply)
		_, err := c.BeginDevice(t.Context(), nil)
		var down *tokencache.ServerError
		var refused *xoauth2.ProtocolError
		if errors.As(err, &refused) != (tt.protocol != "") || refused != nil && refused.Code != tt.protocol {
			t.Errorf("%s: got %v", name, err)
		}
		if errors.As(err, &down) != (tt.protocol == "") || down != nil && down.RetryAfter != tt.retry {
			t.Errorf("%s: got %v, down %+v", name, err, down)
		}
		clean(t, err, "marker")
	}
	for name, o := range map[string]*xoauth2.DeviceOptions{
		"two scopes in one": {Scopes: []string{"a b"}}, "claims": {Claims: "marker"},
	} {
		_, err := c.BeginDevice(t.Context(), o)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		clean(t, err, "marker")
	}
	none := newFake(t, "")
	_, c = none.client(t, nil)
	if _, err := c.BeginDevice(t.Context(), nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
	none.metadata["device_authorization_endpoint"] = "javascript:alert(1)"
	if _, err := xoauth2.New(t.Context(), newCache(t, none.issuer(), nil), &xoauth2.Options{HTTPClient: httpClient(t)}); err == nil {
		t.Error("no error for an endpoint that is no URL")
	}
}

// bubble runs a test of time, with a client that reaches the fake without a network.
func bubble(t *testing.T, f *fake, test func(t *testing.T, cache *tokencache.Cache, c *xoauth2.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cache := newCache(t, f.issuer(), nil)
		test(t, cache, newClient(t, cache, &xoauth2.Options{HTTPClient: &http.Client{Transport: memoryTransport{f}}}))
	})
}

// TestPolling: how long it takes says how often the server was asked.
func TestPolling(t *testing.T) {
	t.Parallel()
	pending, slow, down := oauthFailure("authorization_pending"), oauthFailure("slow_down"), reply{status: 503}
	for name, tt := range map[string]struct {
		members map[string]any
		replies []reply
		took    time.Duration
		is      error
	}{
		"at once":             {took: 5 * time.Second},
		"patience":            {replies: []reply{pending, pending}, took: 15 * time.Second},
		"status 200":          {replies: []reply{{200, nil, map[string]any{"error": "authorization_pending"}}}, took: 10 * time.Second},
		"slower":              {replies: []reply{slow, pending, slow}, took: (5 + 10 + 10 + 15) * time.Second},
		"slower and slower":   {members: map[string]any{"interval": 50, "expires_in": 3600}, replies: []reply{slow, slow, slow}, took: (50 + 55 + 60 + 60) * time.Second},
		"default":             {members: map[string]any{"interval": nil}, replies: []reply{pending}, took: 10 * time.Second},
		"negative":            {members: map[string]any{"interval": -1}, replies: []reply{pending}, took: 10 * time.Second},
		"never":               {members: map[string]any{"interval": 1e12}, replies: []reply{pending}, took: 2 * time.Minute},
		"all the time":        {members: map[string]any{"interval": 1e-9}, replies: []reply{pending}, took: 2 * time.Second},
		"down":                {replies: []reply{down, down, down}, took: (5 + 10 + 20 + 40) * time.Second},
		"down and up":         {replies: []reply{down, pending, down, down}, took: (5 + 10 + 5 + 10 + 20) * time.Second},
		"down for long":       {replies: []reply{down, down, down, down, down, down}, took: (5 + 10 + 20 + 40 + 60 + 60 + 60) * time.Second},
		"down, with a hint":   {replies: []reply{{503, http.Header{"Retry-After": {"30"}}, ""}}, took: 35 * time.Second},
		"down, with nonsense": {replies: []reply{{503, http.Header{"Retry-After": {"99999"}}, ""}}, took: 65 * time.Second},
		"server_error":        {replies: []reply{oauthFailure("server_error")}, took: 15 * time.Second},
		"garbage":             {replies: []reply{{200, nil, "marker <html>"}}, took: 15 * time.Second},
		"huge":                {replies: []reply{{200, nil, strings.Repeat("a", 1<<20+1)}}, took: 15 * time.Second},
		"too many":            {replies: []reply{{429, http.Header{"Retry-After": {"12"}}, ""}}, took: 17 * time.Second},
		"denied":              {replies: []reply{pending, oauthFailure("access_denied")}, took: 10 * time.Second, is: xoauth2.ErrDenied},
		"denied, Entra":       {replies: []reply{oauthFailure("authorization_declined")}, took: 5 * time.Second, is: xoauth2.ErrDenied},
		"expired":             {replies: []reply{oauthFailure("expired_token")}, took: 5 * time.Second, is: xoauth2.ErrDeviceCode},
		"unknown":             {replies: []reply{oauthFailure("invalid_grant")}, took: 5 * time.Second, is: xoauth2.ErrDeviceCode},
		"unknown, Entra":      {replies: []reply{oauthFailure("bad_verification_code")}, took: 5 * time.Second, is: xoauth2.ErrDeviceCode},
		"never answered":      {members: map[string]any{"expires_in": 12}, replies: []reply{pending, pending, pending}, took: 12 * time.Second, is: xoauth2.ErrDeviceCode},
		"down before the end": {members: map[string]any{"expires_in": 22}, replies: []reply{down, pending, pending}, took: 22 * time.Second, is: xoauth2.ErrDeviceCode},
		"down until the end":  {members: map[string]any{"expires_in": 12}, replies: []reply{down, down}, took: 12 * time.Second, is: xoauth2.ErrDeviceCode},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newDeviceFake(t, "")
			bubble(t, f, func(t *testing.T, cache *tokencache.Cache, c *xoauth2.Client) {
				d := f.mustDevice(t, c, tt.members)
				began := time.Now()
				id := f.idToken(t, map[string]any{"exp": began.Add(3 * time.Hour).Unix()})
				f.answer(append(tt.replies, reply{body: tokens(map[string]any{"id_token": id})})...)
				ticket, err := c.CompleteDevice(t.Context(), d)
				if took := time.Since(began); !errors.Is(err, tt.is) || (err == nil) != (tt.is == nil) || took != tt.took {
					t.Fatalf("got %v after %v, want %v after %v", err, took, tt.is, tt.took)
				}
				clean(t, err, "marker")
				var server *tokencache.ServerError
				if errors.As(err, &server) != (name == "down until the end") {
					t.Errorf("got %v", err)
				}
				if err != nil {
					return
				}
				form := f.last(t).PostForm
				if form.Get("device_code") != "marker-device-code" || form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:device_code" {
					t.Errorf("sent the grant type %q", form.Get("grant_type"))
				}
				ctx := tokencache.NewContext(t.Context(), cache.Partition(ticket.Key()))
				if tok, err := c.Token(ctx); err != nil || tok.AccessToken != "marker-access-token" {
					t.Errorf("got %v, or another token", err)
				}
			})
		})
	}
}

// TestDeviceTokensRefused: what cannot be trusted is not stored, and not asked for
// again.
func TestDeviceTokensRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		tenant  string
		members func(t *testing.T, f *fake) map[string]any
		is      error
	}{
		"no ID token":     {members: func(*testing.T, *fake) map[string]any { return nil }, is: xoauth2.ErrIDToken},
		"another's":       {members: idToken(map[string]any{"aud": "another"}), is: xoauth2.ErrIDToken},
		"another issuer":  {members: idToken(map[string]any{"iss": "https://evil.example"}), is: xoauth2.ErrIDToken},
		"expired":         {members: idToken(map[string]any{"exp": 1}), is: xoauth2.ErrIDToken},
		"no subject":      {members: idToken(map[string]any{"sub": ""}), is: xoauth2.ErrIDToken},
		"not a JWT":       {members: func(*testing.T, *fake) map[string]any { return map[string]any{"id_token": "marker-token"} }, is: xoauth2.ErrIDToken},
		"of another kind": {members: func(*testing.T, *fake) map[string]any { return map[string]any{"token_type": "mac"} }},
		"another user": {tenant: home, is: xoauth2.ErrIDToken, members: func(t *testing.T, f *fake) map[string]any {
			m := idToken(map[string]any{"oid": "o-1", "tid": home})(t, f)
			m["client_info"] = clientInfo("o-2", home)
			return m
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newDeviceFake(t, tt.tenant)
			bubble(t, f, func(t *testing.T, _ *tokencache.Cache, c *xoauth2.Client) {
				d := f.mustDevice(t, c, nil)
				f.answer(reply{body: tokens(tt.members(t, f))})
				before := len(f.requests)
				_, err := c.CompleteDevice(t.Context(), d)
				var down *tokencache.ServerError
				if err == nil || tt.is != nil && !errors.Is(err, tt.is) || errors.As(err, &down) != (tt.is == nil) {
					t.Errorf("got %v, want %v", err, tt.is)
				}
				if n := len(f.requests) - before; n != 1 {
					t.Errorf("%d requests, want 1", n)
				}
				clean(t, err, "marker", "evil", "o-2")
			})
		})
	}
}

func idToken(claims map[string]any) func(t *testing.T, f *fake) map[string]any {
	return func(t *testing.T, f *fake) map[string]any { return map[string]any{"id_token": f.idToken(t, claims)} }
}

// TestPollingEnds: the caller may give up, and take it up again.
func TestPollingEnds(t *testing.T) {
	t.Parallel()
	f := newDeviceFake(t, "")
	bubble(t, f, func(t *testing.T, _ *tokencache.Cache, c *xoauth2.Client) {
		d := f.mustDevice(t, c, nil)
		f.answer(oauthFailure("authorization_pending"))
		short, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		began := time.Now()
		var down *tokencache.ServerError
		if _, err := c.CompleteDevice(short, d); !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &down) || time.Since(began) != 12*time.Second {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		f.answer(reply{body: tokens(map[string]any{"id_token": f.idToken(t, nil)})})
		if _, err := c.CompleteDevice(t.Context(), d); err != nil {
			t.Error(err)
		}
	})
}

// TestDeviceSession: the tokens are those of the session, and signing out while the
// user types the code, or of what was there before, does not end the sign-in.
func TestDeviceSession(t *testing.T) {
	t.Parallel()
	f := newDeviceFake(t, "")
	bubble(t, f, func(t *testing.T, cache *tokencache.Cache, c *xoauth2.Client) {
		f.answer(reply{body: codes(nil)})
		d, err := c.BeginDevice(t.Context(), &xoauth2.DeviceOptions{Session: "session-1"})
		if err != nil {
			t.Fatal(err)
		}
		f.answer(oauthFailure("authorization_pending"), oauthFailure("authorization_pending"),
			reply{body: tokens(map[string]any{"id_token": f.idToken(t, nil)})})
		time.AfterFunc(7*time.Second, func() {
			if err := cache.Partition(tokencache.AccountKey("subject-1")).SignOutEverywhere(context.Background(), nil); err != nil {
				t.Error(err)
			}
		})
		ticket, err := c.CompleteDevice(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Token(tokencache.NewContext(t.Context(), cache.Partition(ticket.Key()))); err != nil {
			t.Error(err)
		}
		if err := cache.Partition(tokencache.SessionKey("subject-1", "session-1")).Check(t.Context()); err != nil {
			t.Errorf("the session's partition: %v", err)
		}
		if err := cache.Partition(tokencache.AccountKey("subject-1")).Check(t.Context()); !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("the account's partition: got %v, want ErrNoTokens", err)
		}
	})
}

func TestForeignDevice(t *testing.T) {
	t.Parallel()
	f, g := newDeviceFake(t, ""), newDeviceFake(t, "")
	_, c := f.client(t, nil)
	_, other := g.client(t, nil)
	d := f.mustDevice(t, c, nil)
	for name, d := range map[string]*xoauth2.Device{"nil": nil, "zero": {}, "another server's": d} {
		if _, err := other.CompleteDevice(t.Context(), d); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if len(g.requests) != 0 {
		t.Error("another server was told of the device code")
	}
}

func TestDevicePrintsNoSecret(t *testing.T) {
	t.Parallel()
	f := newDeviceFake(t, "")
	_, c := f.client(t, nil)
	d := f.mustDevice(t, c, nil)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		for _, v := range []any{d, *d, []any{d}, struct{ D xoauth2.Device }{*d}, struct{ d *xoauth2.Device }{d}} {
			if strings.Contains(fmt.Sprintf(verb, v), "marker") {
				t.Errorf("%%%s shows the device code", verb[1:])
			}
		}
	}
	b, err := json.Marshal(d)
	if err != nil || strings.Contains(string(b), "marker") || !strings.Contains(string(b), "WDJB-MJHT") {
		t.Errorf("%v, or JSON shows the device code", err)
	}
}
