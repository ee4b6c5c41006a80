package idp_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

// party is a client that takes logout tokens.
type party struct {
	idp.Client
	got chan string // the tokens, as they come in
}

func newParty(t *testing.T, id string, answer http.HandlerFunc) *party {
	t.Helper()
	p := &party{got: make(chan string, 100)}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if typ := r.Header.Get("Content-Type"); r.Method != http.MethodPost || typ != "application/x-www-form-urlencoded" {
			t.Errorf("%s with type %q", r.Method, typ)
		}
		p.got <- r.PostFormValue("logout_token")
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(s.Close)
	p.Client = idp.Client{
		ID: id, Secret: id + "-secret", RedirectURIs: []string{"http://127.0.0.1/callback"},
		PostLogoutRedirectURIs: []string{"http://localhost/"}, BackChannelLogoutURI: s.URL + "/logout?a=b",
	}
	return p
}

// one returns the claims of the only logout token so far, which it verifies.
func (p *party) one(t *testing.T, s *idp.Server, e endpoints) map[string]any {
	t.Helper()
	if len(p.got) != 1 {
		t.Fatalf("%s got %d logout tokens, want 1", p.ID, len(p.got))
	}
	raw := <-p.got
	header, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[0])
	if err != nil {
		t.Fatal(err)
	}
	var h map[string]any
	if err := json.Unmarshal(header, &h); err != nil || h["typ"] != "logout+jwt" || h["alg"] != "RS256" {
		t.Errorf("header %v, %v", h, err)
	}
	ctx := oidc.ClientContext(t.Context(), browser(t))
	if _, err := oidc.NewRemoteKeySet(ctx, s.URL()+"/keys").VerifySignature(ctx, raw); err != nil {
		t.Errorf("signature: %v", err)
	}
	c := payload(t, raw)
	now := float64(time.Now().Unix())
	iat, _ := c["iat"].(float64)
	exp, _ := c["exp"].(float64)
	if iat > now || iat < now-5 || exp-iat != 120 {
		t.Errorf("iat %v, exp %v, now %v", iat, exp, now)
	}
	if jti, _ := c["jti"].(string); jti == "" || c["iss"] != e.issuer || c["aud"] != p.ID || c["nonce"] != nil {
		t.Errorf("claims %v", c)
	}
	if want := map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}; fmt.Sprint(c["events"]) != fmt.Sprint(want) {
		t.Errorf("events %v", c["events"])
	}
	return c
}

// person is a browser with cookies.
type person struct {
	*http.Client
}

func newPerson(t *testing.T) person {
	t.Helper()
	c := browser(t)
	c.Jar, _ = cookiejar.New(nil) // never fails
	return person{c}
}

func (p person) do(t *testing.T, method, u string, form url.Values) answer {
	t.Helper()
	resp, err := p.Do(request(t, method, u, form.Encode(), "Content-Type", "application/x-www-form-urlencoded"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (p person) signIn(t *testing.T, e endpoints, c *party, user string, scope ...string) tokens {
	t.Helper()
	q := authorizeQuery(append(scope, "openid")...)
	q.Set("client_id", c.ID)
	a := p.do(t, http.MethodPost, e.base+"/authorize?"+q.Encode(), url.Values{"username": {user}})
	form := codeForm(redirected(t, a, callback).Get("code"))
	form.Set("client_id", c.ID)
	form.Set("client_secret", c.Secret)
	return mustTokens(t, post(t, e.token(), form))
}

func TestOneSIDPerBrowser(t *testing.T) {
	t.Parallel()
	a, b := newParty(t, "a", nil), newParty(t, "b", nil)
	s := listen(t, &idp.Options{Clients: []idp.Client{a.Client, b.Client}})
	here, there := newPerson(t), newPerson(t)
	sid := func(tok tokens) any { return payload(t, tok.IDToken)["sid"] }
	first := here.signIn(t, entra(s), a, "anna", "offline_access")
	want := sid(first)
	form := refreshForm(first.RefreshToken)
	form.Set("client_id", "a")
	form.Set("client_secret", "a-secret")
	for name, got := range map[string]any{
		"another client": sid(here.signIn(t, entra(s), b, "ANNA")), "the other issuer": sid(here.signIn(t, plain(s), a, "anna")),
		"again": sid(here.signIn(t, entra(s), a, "anna")), "refresh": sid(mustTokens(t, post(t, entra(s).token(), form))),
	} {
		if got != want || got == nil {
			t.Errorf("%s: sid %v, want %v", name, got, want)
		}
	}
	if sid(there.signIn(t, entra(s), a, "anna")) == want {
		t.Error("two browsers have one sid")
	}
	if sid(here.signIn(t, entra(s), a, "bert")) == want {
		t.Error("two users have one sid")
	}
}

func TestSessionCookie(t *testing.T) {
	t.Parallel()
	s, other := listen(t, nil), listen(t, nil)
	send := func(cookie string) string {
		t.Helper()
		req := request(t, http.MethodPost, s.URL()+"/authorize?"+authorizeQuery().Encode(), "username=anna",
			"Content-Type", "application/x-www-form-urlencoded", "Cookie", cookie)
		return do(t, req).header.Get("Set-Cookie")
	}
	set := send("")
	if !strings.HasPrefix(set, "idp-session-") || !strings.Contains(set, "HttpOnly") || !strings.Contains(set, "SameSite=Lax") {
		t.Fatal("Set-Cookie lacks a name or an attribute")
	}
	name, rest, _ := strings.Cut(set, "=")
	value, _, _ := strings.Cut(rest, ";")
	if again := send(name + "=" + value); !strings.HasPrefix(again, name+"="+value+";") {
		t.Error("the session is not kept")
	}
	if planted := send(name + "=planted"); strings.Contains(planted, "planted") {
		t.Error("a cookie that the server did not issue is adopted")
	}
	if strings.Contains(name, other.URL()[strings.LastIndex(other.URL(), ":")+1:]) {
		t.Error("two servers use one cookie")
	}
}

func TestBackChannelLogout(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			a, b, deaf := newParty(t, "a", nil), newParty(t, "b", nil), newParty(t, "deaf", nil)
			silent := idp.Client{ID: deaf.ID, Secret: deaf.Secret, RedirectURIs: deaf.RedirectURIs}
			s := listen(t, &idp.Options{Clients: []idp.Client{a.Client, b.Client, silent}})
			here, there := newPerson(t), newPerson(t)
			ta, tb := here.signIn(t, entra(s), a, "anna"), here.signIn(t, plain(s), b, "anna")
			here.signIn(t, entra(s), a, "anna") // again: not twice told
			here.signIn(t, entra(s), deaf, "anna")
			there.signIn(t, entra(s), b, "anna")

			q := url.Values{"id_token_hint": {ta.IDToken}, "post_logout_redirect_uri": {"http://localhost/"}, "state": {"x"}}
			end := func(q url.Values) answer {
				if method == http.MethodGet {
					return here.do(t, method, entra(s).base+"/logout?"+q.Encode(), nil)
				}
				return here.do(t, method, entra(s).base+"/logout", q)
			}
			wrong := url.Values{"id_token_hint": {ta.IDToken}, "post_logout_redirect_uri": {"https://evil.test/"}}
			if got := end(wrong); got.status != http.StatusBadRequest || len(a.got) != 0 {
				t.Fatalf("a refused logout: %d, and %d tokens", got.status, len(a.got))
			}
			got := end(q)
			if got.header.Get("Location") != "http://localhost/?state=x" || !strings.Contains(got.header.Get("Set-Cookie"), "Max-Age=0") {
				t.Errorf("%d to %q", got.status, got.header.Get("Location"))
			}
			for _, tt := range []struct {
				p   *party
				e   endpoints
				tok tokens
			}{{a, entra(s), ta}, {b, plain(s), tb}} {
				c, id := tt.p.one(t, s, tt.e), payload(t, tt.tok.IDToken)
				if c["sub"] != id["sub"] || c["sid"] != id["sid"] || c["sid"] == nil {
					t.Errorf("%s: sub %v and sid %v, want %v and %v", tt.p.ID, c["sub"], c["sid"], id["sub"], id["sid"])
				}
			}
			end(q) // over already
			if st := s.Stats(); st.BackChannelLogouts != 2 || st.BackChannelLogoutsFailed != 0 || len(a.got)+len(b.got)+len(deaf.got) != 0 {
				t.Errorf("stats %+v", st)
			}
			if a := callAPI(t, s, ta.AccessToken); a.status != http.StatusOK {
				t.Errorf("signing out revoked a token: %d", a.status)
			}
			if sid := payload(t, here.signIn(t, entra(s), a, "anna").IDToken)["sid"]; sid == payload(t, ta.IDToken)["sid"] {
				t.Error("the session that ended goes on")
			}
		})
	}
}

// TestWhichSessionsEnd covers hint and cookie, which need not agree.
func TestWhichSessionsEnd(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		hint, cookie string // who is signed in
		want         int
	}{
		"hint alone": {"anna", "", 1}, "cookie alone": {"", "anna", 1}, "both, one user": {"anna", "anna", 2},
		"both, two users": {"anna", "bert", 1}, "neither": {"", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newParty(t, "a", nil)
			s := listen(t, &idp.Options{Clients: []idp.Client{a.Client}})
			here, q := newPerson(t), url.Values{}
			if tt.hint != "" {
				q.Set("id_token_hint", newPerson(t).signIn(t, plain(s), a, tt.hint).IDToken)
			}
			if tt.cookie != "" {
				here.signIn(t, plain(s), a, tt.cookie)
			}
			if got := here.do(t, http.MethodGet, s.URL()+"/logout?"+q.Encode(), nil); got.status != http.StatusOK {
				t.Fatalf("status %d", got.status)
			}
			if len(a.got) != tt.want {
				t.Errorf("%d logout tokens, want %d", len(a.got), tt.want)
			}
		})
	}
}

func TestBackChannelLogoutOfAUser(t *testing.T) {
	t.Parallel()
	loose, strict := newParty(t, "loose", nil), newParty(t, "strict", nil)
	strict.BackChannelLogoutSessionRequired = true
	s := listen(t, &idp.Options{Clients: []idp.Client{loose.Client, strict.Client}})
	e := plain(s)
	arrive := func() (sub any) {
		for range 2 {
			here := newPerson(t)
			sub = payload(t, here.signIn(t, e, loose, "anna").IDToken)["sub"]
			here.signIn(t, e, strict, "anna")
		}
		newPerson(t).signIn(t, e, loose, "bert")
		return sub
	}
	sub := arrive()
	if n, err := s.RevokeUser("anna"); n != 4 || err != nil {
		t.Errorf("got %d, %v, want 4 families", n, err)
	}
	if c := loose.one(t, s, e); c["sub"] != sub || c["sid"] != nil {
		t.Errorf("claims %v, want sub alone", c)
	}
	sids := map[any]bool{}
	for range len(strict.got) {
		sids[payload(t, <-strict.got)["sid"]] = true
	}
	if len(sids) != 2 || sids[nil] {
		t.Errorf("sids %v, want two", sids)
	}

	arrive()
	if a := post(t, s.URL()+"/control/logout?user=ANNA", nil); a.status != http.StatusNoContent {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for range len(loose.got) {
		sids[payload(t, <-loose.got)["sid"]] = true
	}
	if len(sids) != 4 || sids[nil] || len(strict.got) != 2 {
		t.Errorf("sids %v and %d tokens, want two more and 2", sids, len(strict.got))
	}
	if n, err := s.EndSessions("bert"); n != 2 || err != nil {
		t.Errorf("got %d, %v, want 2 sessions", n, err)
	}
	if _, err := s.EndSessions(""); err == nil {
		t.Error("no error for an empty name")
	}
}

func TestBackChannelDeliveries(t *testing.T) {
	t.Parallel()
	hanging := make(chan struct{})
	var once sync.Once
	release := func() { once.Do(func() { close(hanging) }) }
	t.Cleanup(release)
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		ok     bool
	}{
		"200": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }, true},
		"204": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, true},
		"400": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }, false},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, false},
		"abort": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 64<<10))
			}
		}, true},
		"hanging": {func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-hanging:
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newParty(t, "a", tt.answer)
			s := listen(t, &idp.Options{Clients: []idp.Client{a.Client}})
			newPerson(t).signIn(t, plain(s), a, "anna")
			start := time.Now()
			if _, err := s.EndSessions("anna"); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 10*time.Second || (name == "hanging") != (took > 2500*time.Millisecond) {
				t.Errorf("took %s", took)
			}
			if st := s.Stats(); (st.BackChannelLogouts == 1) != tt.ok || st.BackChannelLogouts+st.BackChannelLogoutsFailed != 1 || len(a.got) != 1 {
				t.Errorf("stats %+v, %d tokens", st, len(a.got))
			}
		})
	}
}

// A client that wants no subject is told of the session alone, and of a user who has no
// session in it any more all the same.
func TestBackChannelLogoutOfASession(t *testing.T) {
	t.Parallel()
	a := newParty(t, "a", nil)
	a.BackChannelLogoutSessionOnly = true
	s := listen(t, &idp.Options{Clients: []idp.Client{a.Client}})
	e := plain(s)
	id := payload(t, newPerson(t).signIn(t, e, a, "anna").IDToken)
	if _, err := s.EndSessions("anna"); err != nil {
		t.Fatal(err)
	}
	if c := a.one(t, s, e); c["sub"] != nil || c["sid"] != id["sid"] || c["sid"] == nil {
		t.Errorf("claims %v, want sid alone", c)
	}
	newPerson(t).signIn(t, e, a, "anna")
	if _, err := s.RevokeUser("anna"); err != nil {
		t.Fatal(err)
	}
	if c := a.one(t, s, e); c["sub"] != id["sub"] || c["sid"] != nil {
		t.Errorf("claims %v, want sub alone", c)
	}
}

// TestCloseEndsDeliveries checks that a client that hangs does not hold up Close.
func TestCloseEndsDeliveries(t *testing.T) {
	t.Parallel()
	a := newParty(t, "a", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s := listen(t, &idp.Options{Clients: []idp.Client{a.Client}})
	here := newPerson(t)
	here.signIn(t, plain(s), a, "anna")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.EndSessions("anna")
	}()
	<-a.got
	start := time.Now()
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	<-done
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
	if st := s.Stats(); st.BackChannelLogoutsFailed != 1 {
		t.Errorf("stats %+v", st)
	}
}

func TestBackChannelOverTLS(t *testing.T) {
	t.Parallel()
	for name, trusted := range map[string]bool{"trusted": true, "unknown": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newParty(t, "a", nil)
			front := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			defer front.Close()
			a.BackChannelLogoutURI = front.URL
			roots := x509.NewCertPool()
			if trusted {
				roots.AddCert(front.Certificate())
			}
			s := listen(t, &idp.Options{Clients: []idp.Client{a.Client}, BackChannelRootCAs: roots})
			newPerson(t).signIn(t, plain(s), a, "anna")
			if _, err := s.EndSessions("anna"); err != nil {
				t.Fatal(err)
			}
			if st := s.Stats(); (st.BackChannelLogouts == 1) != trusted || st.BackChannelLogouts+st.BackChannelLogoutsFailed != 1 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}
