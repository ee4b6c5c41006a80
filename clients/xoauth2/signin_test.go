package xoauth2_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestSignIn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]config{"plain": {}, "entra": {entra: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, c)
			authURL, s := f.begin(t, &xoauth2.SignInOptions{LoginHint: "anna", Prompt: "login", Claims: `{"id_token":{}}`})
			checkAuthURL(t, authURL)
			s, err := xoauth2.ParseSignIn(s.Encode())
			if err != nil {
				t.Fatal(err)
			}
			ticket, err := f.client.CompleteSignIn(t.Context(), s, browse(t, authURL, "anna"))
			if err != nil {
				t.Fatal(err)
			}
			ctx := tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key()))
			tok, err := f.client.Token(ctx)
			if err != nil {
				t.Fatal(err)
			}
			status, body := f.me(t, tok)
			if status != http.StatusOK || !strings.Contains(body, "anna@contoso.test") {
				t.Errorf("the API answered %d %s", status, body)
			}
			if got := f.idp.Stats().TokenRequests; got.RefreshToken != 0 || got.AuthorizationCode != 1 {
				t.Errorf("token requests %+v, want one code only", got)
			}
			if c.entra && !strings.Contains(body, ticket.Account()) {
				t.Errorf("account %q is not the home account ID of %s", ticket.Account(), body)
			}
			if !c.entra && (ticket.Account() == "" || strings.Contains(body, ticket.Account())) {
				t.Errorf("account %q is not the subject", ticket.Account())
			}
			if left := time.Until(tok.Expires); left < 9*time.Minute || left > 10*time.Minute {
				t.Errorf("the token lives for %v, want just under 10 minutes", left)
			}
		})
	}
}

func checkAuthURL(t *testing.T, authURL string) {
	t.Helper()
	u, err := url.Parse(authURL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	want := map[string]string{
		"response_type": "code", "client_id": idp.DefaultClientID, "redirect_uri": callbackURL,
		"scope": "openid offline_access profile " + apiScope, "code_challenge_method": "S256",
		"login_hint": "anna", "prompt": "login", "claims": `{"id_token":{}}`,
	}
	for name, value := range want {
		if q.Get(name) != value {
			t.Errorf("%s is %q, want %q", name, q.Get(name), value)
		}
	}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if b, err := base64.RawURLEncoding.DecodeString(q.Get(name)); err != nil || len(b) != 32 {
			t.Errorf("%s is not 32 bytes", name)
		}
	}
	if q.Get("state") == q.Get("nonce") {
		t.Error("state and nonce are the same")
	}
}

// TestCallback changes a callback or its SignIn in one way each.
func TestCallback(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	tests := map[string]struct {
		change func(q url.Values)
		sign   func(t *testing.T, s xoauth2.SignIn) xoauth2.SignIn
		want   error
		says   string
	}{
		"state missing":     {change: del("state"), want: xoauth2.ErrCallback, says: "state is missing"},
		"state empty":       {change: set("state", ""), want: xoauth2.ErrCallback, says: "state is missing"},
		"state of another":  {change: set("state", strings.Repeat("A", 43)), want: xoauth2.ErrCallback, says: "not that of this session"},
		"state twice":       {change: add("state", "x"), want: xoauth2.ErrCallback, says: "state is repeated"},
		"code missing":      {change: del("code"), want: xoauth2.ErrCallback, says: "code is missing"},
		"code twice":        {change: add("code", "x"), want: xoauth2.ErrCallback, says: "code is repeated"},
		"code oversized":    {change: set("code", strings.Repeat("A", 8193)), want: xoauth2.ErrCallback, says: "larger"},
		"code wrong":        {change: set("code", "marker-wrong-code"), want: xoauth2.ErrCallback, says: "refused the code"},
		"iss missing":       {change: del("iss"), want: xoauth2.ErrCallback, says: "iss is missing"},
		"iss foreign":       {change: set("iss", "https://evil.example"), want: xoauth2.ErrCallback, says: "another authorization server"},
		"iss of the sister": {change: set("iss", f.idp.TenantURL()), want: xoauth2.ErrCallback, says: "another authorization server"},
		"iss twice":         {change: add("iss", "x"), want: xoauth2.ErrCallback, says: "iss is repeated"},
		"denied":            {change: fail("access_denied"), want: xoauth2.ErrDenied},
		"denied, but state is another's": {
			change: func(q url.Values) { fail("access_denied")(q); q.Set("state", "x") },
			want:   xoauth2.ErrCallback, says: "not that of this session",
		},
		"denied by another server": {
			change: func(q url.Values) { fail("access_denied")(q); q.Set("iss", "https://evil.example") },
			want:   xoauth2.ErrCallback,
		},
		"error twice":  {change: func(q url.Values) { fail("x")(q); q.Add("error", "y") }, want: xoauth2.ErrCallback},
		"no SignIn":    {sign: func(*testing.T, xoauth2.SignIn) xoauth2.SignIn { return xoauth2.SignIn{} }, want: xoauth2.ErrCallback, says: "no sign-in was begun"},
		"old SignIn":   {sign: edit("started", time.Now().Add(-16*time.Minute).Unix()), want: xoauth2.ErrCallback, says: "15 minutes"},
		"future":       {sign: edit("started", time.Now().Add(time.Hour).Unix()), want: xoauth2.ErrCallback, says: "15 minutes"},
		"other issuer": {sign: edit("iss", "https://other.example"), want: xoauth2.ErrCallback, says: "another authorization server"},
		"other nonce":  {sign: edit("nonce", strings.Repeat("N", 43)), want: xoauth2.ErrIDToken, says: "nonce"},
		"other verifier": {
			sign: edit("verifier", strings.Repeat("V", 43)), want: xoauth2.ErrCallback, says: "refused the code",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			authURL, s := f.begin(t, nil)
			q := browse(t, authURL, "anna")
			code, text := q.Get("code"), s.Encode()
			if tt.change != nil {
				tt.change(q)
			}
			if tt.sign != nil {
				s = tt.sign(t, s)
			}
			_, err := f.client.CompleteSignIn(t.Context(), s, q)
			if !errors.Is(err, tt.want) || !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("got %v, want %v with %q", err, tt.want, tt.says)
			}
			if errors.Is(err, tokencache.ErrNoTokens) {
				t.Error("the error says that the user has no tokens")
			}
			clean(t, err, code, text, "marker-wrong-code", strings.Repeat("A", 43), "evil")
		})
	}
	t.Cleanup(func() {
		if n := f.writes.Load(); n != 0 {
			t.Errorf("%d partitions were written", n)
		}
	})
}

func del(name string) func(url.Values) { return func(q url.Values) { q.Del(name) } }
func set(name, value string) func(url.Values) {
	return func(q url.Values) { q.Set(name, value) }
}

func add(name, value string) func(url.Values) {
	return func(q url.Values) { q.Add(name, value) }
}

func fail(code string) func(url.Values) {
	return func(q url.Values) { q.Del("code"); q.Set("error", code) }
}

// edit changes a member of an encoded SignIn.
func edit(member string, value any) func(*testing.T, xoauth2.SignIn) xoauth2.SignIn {
	return func(t *testing.T, s xoauth2.SignIn) xoauth2.SignIn {
		t.Helper()
		b, err := base64.RawURLEncoding.DecodeString(s.Encode())
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		m[member] = value
		if b, err = json.Marshal(m); err != nil {
			t.Fatal(err)
		}
		if s, err = xoauth2.ParseSignIn(base64.RawURLEncoding.EncodeToString(b)); err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func TestCallbackErrorCodes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	complete := func(code string) error {
		_, s := f.begin(t, nil)
		b, _ := base64.RawURLEncoding.DecodeString(s.Encode())
		var p struct{ State string }
		_ = json.Unmarshal(b, &p)
		_, err := f.client.CompleteSignIn(t.Context(), s, url.Values{
			"state": {p.State}, "iss": {f.idp.URL()}, "error": {code}, "error_description": {"marker text"},
		})
		clean(t, err, "marker")
		return err
	}
	for _, code := range []string{"interaction_required", "login_required", "consent_required", "account_selection_required"} {
		var e *tokencache.InteractionRequiredError
		if err := complete(code); !errors.As(err, &e) || e.Code != code || len(e.Scopes) != 2 {
			t.Errorf("%s: got %#v", code, err)
		}
	}
	for code, want := range map[string]string{
		"invalid_scope": "invalid_scope", "invalid_grant": "invalid_grant", "": "unreadable",
		"a\nforged log line": "unreadable", strings.Repeat("a", 65): "unreadable",
	} {
		var e *xoauth2.ProtocolError
		if err := complete(code); !errors.As(err, &e) || e.Code != want {
			t.Errorf("%q: got %v, want a ProtocolError of %s", code, err, want)
		}
	}
	for _, code := range []string{"server_error", "temporarily_unavailable"} {
		var e *tokencache.ServerError
		if err := complete(code); !errors.As(err, &e) {
			t.Errorf("%s: got %v, want a ServerError", code, err)
		}
	}
}

// TestPromptNone goes through a real server's error redirect.
func TestPromptNone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	authURL, s := f.begin(t, &xoauth2.SignInOptions{Prompt: "none"})
	_, err := f.client.CompleteSignIn(t.Context(), s, browse(t, authURL, "anna"))
	var e *tokencache.InteractionRequiredError
	if !errors.As(err, &e) || e.Code != "login_required" {
		t.Errorf("got %v, want login_required", err)
	}
}

func TestReplayedCallback(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	authURL, s := f.begin(t, nil)
	q := browse(t, authURL, "anna")
	if _, err := f.client.CompleteSignIn(t.Context(), s, q); err != nil {
		t.Fatal(err)
	}
	_, err := f.client.CompleteSignIn(t.Context(), s, q)
	if !errors.Is(err, xoauth2.ErrCallback) || errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("got %v, want ErrCallback", err)
	}
	clean(t, err, q.Get("code"))
}

func TestSignInFaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		entra bool
		fault idp.Fault
		is    error
		says  string
	}{
		"wrong nonce":     {fault: idp.Fault{Kind: "wrong_nonce"}, is: xoauth2.ErrIDToken, says: "nonce"},
		"wrong audience":  {fault: idp.Fault{Kind: "wrong_audience"}, is: xoauth2.ErrIDToken, says: "audience"},
		"foreign subject": {entra: true, fault: idp.Fault{Kind: "foreign_subject"}, is: xoauth2.ErrIDToken, says: "client_info"},
		"garbage":         {fault: idp.Fault{Kind: "garbage"}},
		"huge":            {fault: idp.Fault{Kind: "huge"}, says: "1 MiB"},
		"hang":            {fault: idp.Fault{Kind: "hang"}, says: "no answer in time"},
		"drop":            {fault: idp.Fault{Kind: "drop"}},
		"503":             {fault: idp.Fault{Status: 503}, says: "503"},
		"429":             {fault: idp.Fault{Status: 429}},
		"keys 503":        {fault: idp.Fault{Endpoint: "keys", Status: 503}, says: "keys"},
		"keys garbage":    {fault: idp.Fault{Endpoint: "keys", Kind: "huge"}, says: "keys"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, config{entra: tt.entra, timeout: 2 * time.Second})
			authURL, s := f.begin(t, nil)
			q := browse(t, authURL, "anna")
			if tt.fault.Endpoint == "" {
				tt.fault.Endpoint = "token"
			}
			f.fault(t, tt.fault)
			_, err := f.client.CompleteSignIn(t.Context(), s, q)
			var down *tokencache.ServerError
			if tt.is == nil && !errors.As(err, &down) {
				t.Errorf("got %v, want a ServerError", err)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got %v, want %v", err, tt.is)
			}
			if !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("got %q, want it to say %q", err, tt.says)
			}
			if tt.fault.Endpoint == "token" && tt.fault.Status != 0 && down != nil && down.RetryAfter != time.Second {
				t.Errorf("RetryAfter %v, want 1s", down.RetryAfter)
			}
			clean(t, err, q.Get("code"))
			if f.writes.Load() != 0 {
				t.Error("something was stored")
			}
		})
	}
}

func TestSignInIsRedacted(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	_, s := f.begin(t, nil)
	b, _ := base64.RawURLEncoding.DecodeString(s.Encode())
	var p struct{ State, Nonce, Verifier string }
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "sign-in", s, "in", struct{ S xoauth2.SignIn }{s})
	type session struct{ signIn xoauth2.SignIn }
	printed := fmt.Sprintf("%v %+v %#v %s %q %d %x %+v %#v %+v", s, s, s, s, s, s, s, session{s}, session{s}, f.client) + log.String()
	for _, secret := range []string{p.State, p.Nonce, p.Verifier, idp.DefaultClientSecret} {
		if secret == "" || strings.Contains(printed, secret) || strings.Contains(printed, fmt.Sprintf("%x", secret)) {
			t.Errorf("a secret is printed: %s", printed)
		}
	}
}

func TestParseSignIn(t *testing.T) {
	t.Parallel()
	enc := base64.RawURLEncoding.EncodeToString
	for _, text := range []string{
		"", "marker!", enc([]byte("{}")), enc([]byte("null")), enc([]byte(`{"iss":"i","state":"","nonce":"n"}`)),
		strings.Repeat("A", 1<<20), xoauth2.SignIn{}.Encode(),
	} {
		if _, err := xoauth2.ParseSignIn(text); err == nil || strings.Contains(err.Error(), "marker") {
			t.Errorf("%.20q: got error %v", text, err)
		}
	}
}

func TestBeginSignInErrors(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	for name, o := range map[string]xoauth2.SignInOptions{
		"claims":          {Claims: "no JSON"},
		"two in one":      {Scopes: []string{"a b"}},
		"empty scope":     {Scopes: []string{""}},
		"scope in quotes": {Scopes: []string{`"a"`}},
	} {
		if _, _, err := f.client.BeginSignIn(&o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	c := newClient(t, f.cache, &xoauth2.Options{HTTPClient: httpClient(t)})
	if _, _, err := c.BeginSignIn(nil); err == nil {
		t.Error("no error without a redirect URL")
	}
}

// Tokens that are kept apart: two browsers of one user, one of which signs out.
func TestSignInSession(t *testing.T) {
	t.Parallel()
	f := newFixture(t, config{})
	shared := f.ticket(t, "anna", nil)
	apart := f.ticket(t, "anna", &xoauth2.SignInOptions{Session: "marker-session"})
	if apart.Account() != shared.Account() || apart.Key() == shared.Key() {
		t.Fatal("another account, or the same partition")
	}
	ctx := tokencache.NewContext(t.Context(), f.cache.Partition(apart.Key()))
	if _, err := f.client.Token(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.client.SignOut(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.Token(ctx); !errors.Is(err, tokencache.ErrRemoved) {
		t.Errorf("after signing out: %v", err)
	}
	f.expire(t, tokencache.NewContext(t.Context(), f.cache.Partition(shared.Key())))
	if _, err := f.client.Token(tokencache.NewContext(t.Context(), f.cache.Partition(shared.Key()))); err != nil {
		t.Errorf("the other browser: %v", err)
	}
}
