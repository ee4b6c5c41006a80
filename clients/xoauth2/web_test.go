package xoauth2_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/providers/session"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// A user signs in and arrives where they wanted to go; the session's token from
// before is worth nothing.
func TestWebSignIn(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	p := s.person(t, "anna")
	p.one(http.MethodGet, "/put?value=apples", nil)
	planted := p.cookies()
	target := "/token?scope=" + url.QueryEscape(apiScope) + "&x=%2F"
	got := p.visit(http.MethodGet, signInPath+"?login_hint=anna&return_to="+url.QueryEscape(target), nil)
	got.at(t, http.StatusOK, target)
	p.is("user=anna basket=apples")
	s.person(t, "").sets(planted).is("user=nobody basket=")
	if after := p.cookies(); len(after) != 1 || after[0].Value == planted[0].Value {
		t.Error("the session's token is the same as before")
	}
	for i, target := range []string{p.visited[0], p.visited[2]} { // the two handlers
		if got := p.one(http.MethodGet, target, nil).header.Get("Cache-Control"); !strings.Contains(got, "no-store") {
			t.Errorf("handler %d: Cache-Control %q", i, got)
		}
	}
	if err := s.lastError(); !errors.Is(err, xoauth2.ErrCallback) {
		t.Errorf("a callback that comes again: %v", err)
	}
	p.is("user=anna basket=apples")
}

// What is not valid leads nowhere.
func TestWebRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	p := s.person(t, "anna")
	tests := map[string]error{
		signInPath + "?return_to=//evil.test":                              xoauth2.ErrRequest,
		signInPath + "?return_to=https://evil.test":                        xoauth2.ErrRequest,
		signInPath + "?return_to=" + url.QueryEscape(`/\evil.test`):        xoauth2.ErrRequest,
		signInPath + "?return_to=/%09/evil.test":                           xoauth2.ErrRequest,
		signInPath + "?return_to=/%0d%0aSet-Cookie:a=b":                    xoauth2.ErrRequest,
		signInPath + "?return_to=x":                                        xoauth2.ErrRequest,
		signInPath + "?login_hint=" + strings.Repeat("a", 257):             xoauth2.ErrRequest,
		signInPath + "?login_hint=%00":                                     xoauth2.ErrRequest,
		signInPath + "?step=":                                              xoauth2.ErrRequest,
		signInPath + "?step=x":                                             xoauth2.ErrRequest,
		"/callback":                                                        xoauth2.ErrCallback,
		"/callback?state=&code=x":                                          xoauth2.ErrCallback,
		"/callback?state=forged&code=x":                                    xoauth2.ErrCallback,
		"/callback?state=forged&error=access_denied":                       xoauth2.ErrCallback,
		"/callback?state=" + strings.Repeat("a", 9000) + "&code=x&state=b": xoauth2.ErrCallback,
	}
	for target, want := range tests {
		got := p.one(http.MethodGet, target, nil)
		if err := s.lastError(); got.status != http.StatusTeapot || !errors.Is(err, want) || got.header.Get("Location") != "" {
			t.Errorf("%.60s: status %d, %v", target, got.status, err)
		}
		if got.header.Get("Set-Cookie") != "" {
			t.Errorf("%.60s: a session is stored for nothing", target)
		}
	}
	// Those that would go round lead to the start.
	for _, to := range []string{signInPath, signInPath + "?return_to=/signin", "/callback?state=x"} {
		got := p.visit(http.MethodGet, signInPath+"?login_hint=anna&return_to="+url.QueryEscape(to), nil)
		got.at(t, http.StatusOK, "/")
	}
}

func TestWebOptions(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	for name, o := range map[string]*xoauth2.WebOptions{
		"another site":  {SignInPath: "//evil.test/signin"},
		"no path":       {SignInPath: "signin"},
		"with a query":  {SignInPath: "/signin?x"},
		"not canonical": {SignInPath: "/ü"},
		"no time":       {Timeout: -1},
	} {
		if _, err := s.client.Web(s.sessions, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := s.client.Web(nil, nil); err == nil {
		t.Error("no error without sessions")
	}
	nowhere := newClient(t, s.cache, &xoauth2.Options{HTTPClient: httpClient(t)})
	if _, err := nowhere.Web(s.sessions, nil); err == nil {
		t.Error("no error without a redirect URL")
	}
}

// Another user takes the session over as a whole, or not at all.
func TestWebOtherUser(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	p := s.signedIn(t, "anna")
	p.one(http.MethodGet, "/put?value=annas", nil)
	annas := p.cookies()
	step := p.one(http.MethodGet, "/token?scope="+url.QueryEscape(writeScope), nil).header.Get("Location")

	// At the server somebody else answers annas's step: refused, and nothing changes.
	p.name = "mallory"
	writes := s.writes.Load()
	callback := p.consent(step).header.Get("Location")
	p.one(http.MethodGet, callback, nil).at(t, http.StatusTeapot, strings.TrimPrefix(callback, p.base))
	if err := s.lastError(); !errors.Is(err, xoauth2.ErrOtherUser) {
		t.Errorf("got %v, want ErrOtherUser", err)
	}
	if s.writes.Load() != writes {
		t.Error("something was stored of the other user")
	}
	p.is("user=anna basket=annas")

	// A plain sign-in: the session is the other user's, and nothing in it is annas's.
	step = p.one(http.MethodGet, "/token?scope="+url.QueryEscape(writeScope), nil).header.Get("Location")
	p.visit(http.MethodGet, signInPath+"?login_hint=mallory", nil).at(t, http.StatusOK, "/")
	p.is("user=mallory basket=")
	s.person(t, "").sets(annas).is("user=nobody basket=")
	p.name = "anna"
	p.one(http.MethodGet, p.consent(step).header.Get("Location"), nil)
	if err := s.lastError(); !errors.Is(err, xoauth2.ErrCallback) {
		t.Errorf("anna's step in mallory's session: got %v, want ErrCallback", err)
	}
	p.is("user=mallory basket=")
}

// A callback that comes several times at once redeems its code once.
func TestWebCallbackTwice(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	p := s.person(t, "anna")
	target := p.one(http.MethodGet, signInPath+"?login_hint=anna", nil).header.Get("Location")
	callback := p.consent(target).header.Get("Location")
	s.fault(t, idp.Fault{Endpoint: "token", Delay: 200 * time.Millisecond})
	s.store.slow.Store(int64(20 * time.Millisecond))
	cookies := p.cookies()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var signedIn []*person
	for range 8 {
		wg.Go(func() {
			same := s.person(t, "anna").sets(cookies)
			if same.one(http.MethodGet, callback, nil).status == http.StatusSeeOther {
				mu.Lock()
				signedIn = append(signedIn, same)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if n := s.idp.Stats().TokenRequests.AuthorizationCode; n != 1 || len(signedIn) != 1 {
		t.Fatalf("the code was redeemed %d times, and %d are signed in", n, len(signedIn))
	}
	signedIn[0].is("user=anna basket=")
	if got := signedIn[0].one(http.MethodGet, "/token", nil); got.status != http.StatusOK {
		t.Errorf("status %d: %s", got.status, got.body)
	}
}

// What is begun and not ended is bounded: the latest stay.
func TestWebPending(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	p := s.person(t, "anna")
	var begun []string
	for range 7 {
		begun = append(begun, p.one(http.MethodGet, signInPath+"?login_hint=anna", nil).header.Get("Location"))
	}
	for i, want := range map[int]int{1: http.StatusTeapot, 2: http.StatusSeeOther, 6: http.StatusSeeOther} {
		if got := p.one(http.MethodGet, p.consent(begun[i]).header.Get("Location"), nil); got.status != want {
			t.Errorf("sign-in %d: status %d, want %d", i, got.status, want)
		}
	}
}

// An outage of the session store says so and signs nobody out, whenever it begins.
func TestWebSessionOutage(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	p := s.signedIn(t, "anna")
	p.one(http.MethodGet, "/put?value=apples", nil)
	for _, target := range []string{signInPath + "?login_hint=anna", "/token?scope=" + url.QueryEscape(writeScope), "/callback?state=x"} {
		for calls := range int64(4) { // of the store, until it breaks: the first loads the session
			s.mu.Lock()
			s.failed = nil
			s.mu.Unlock()
			s.store.spare.Store(calls + 1)
			s.store.broken.Store(true)
			got := p.one(http.MethodGet, target, nil)
			s.store.broken.Store(false)
			err := s.lastError()
			done := err == nil && got.status == http.StatusSeeOther || errors.Is(err, xoauth2.ErrCallback)
			if !done && got.status != http.StatusServiceUnavailable && (!errors.Is(err, xoauth2.ErrSession) || !errors.Is(err, errStore)) {
				t.Errorf("%s, after %d calls: status %d, %v", target, calls, got.status, err)
			}
			clean(t, err, "marker")
			p.is("user=anna basket=apples")
		}
	}

	// On the way back, before the code is redeemed.
	callback := p.consent(p.one(http.MethodGet, signInPath+"?login_hint=anna", nil).header.Get("Location")).header.Get("Location")
	for calls := range int64(2) {
		before := s.idp.Stats().TokenRequests.AuthorizationCode
		s.store.spare.Store(calls + 1)
		s.store.broken.Store(true)
		p.one(http.MethodGet, callback, nil)
		s.store.broken.Store(false)
		if err := s.lastError(); !errors.Is(err, xoauth2.ErrSession) || s.idp.Stats().TokenRequests.AuthorizationCode != before {
			t.Errorf("after %d calls: %v, and the code may be redeemed", calls, err)
		}
		p.is("user=anna basket=apples")
	}
	if got := p.one(http.MethodGet, callback, nil); got.status != http.StatusSeeOther {
		t.Errorf("when the store is back: status %d, %v", got.status, s.lastError())
	}
	p.is("user=anna basket=apples")

	// And after it was, when the session is read again, or gets its new token.
	for _, calls := range []int64{3, 4} {
		callback = p.consent(p.one(http.MethodGet, signInPath+"?login_hint=anna", nil).header.Get("Location")).header.Get("Location")
		before := s.idp.Stats().TokenRequests.AuthorizationCode
		s.store.spare.Store(calls)
		s.store.broken.Store(true)
		p.one(http.MethodGet, callback, nil)
		s.store.broken.Store(false)
		if err := s.lastError(); !errors.Is(err, xoauth2.ErrSession) || s.idp.Stats().TokenRequests.AuthorizationCode != before+1 {
			t.Errorf("after %d calls: %v", calls, err)
		}
		p.is("user=anna basket=apples")
	}
}

// The authorization server, down or slow, is told from other failures.
func TestWebServerOutage(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]idp.Fault{"down": {Endpoint: "token", Status: 503}, "slow": {Endpoint: "token", Kind: "hang"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, &xoauth2.WebOptions{Timeout: 300 * time.Millisecond})
			p := s.signedIn(t, "anna")
			s.fault(t, fault)
			p.visit(http.MethodGet, signInPath+"?login_hint=anna", nil)
			var down *tokencache.ServerError
			if err := s.lastError(); !errors.As(err, &down) {
				t.Errorf("got %v, want a ServerError", err)
			}
			p.is("user=anna basket=")
		})
	}
}

// Tokens that end with the session, and a ticket that its provider keeps.
func TestWebTickets(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, func(s *site, o *xoauth2.WebOptions) {
		provider, err := session.New(s.sessions, &session.Options{Provider: s.provider})
		if err != nil {
			t.Fatal(err)
		}
		s.cache = cacheOn(t, provider, s.idp.URL(), nil)
		s.client = newClient(t, s.cache, &xoauth2.Options{
			ClientSecret: idp.DefaultClientSecret, RedirectURL: s.server.URL + "/callback",
			Scopes: []string{"profile", apiScope}, HTTPClient: httpClient(t),
		})
		o.Tickets = provider
	})
	p := s.signedIn(t, "anna")
	p.one(http.MethodGet, "/put?value=annas", nil)
	before := p.cookies()
	target := "/token?scope=" + url.QueryEscape(writeScope)
	p.visit(http.MethodGet, target, nil).at(t, http.StatusOK, target)
	p.is("user=anna basket=annas")
	if p.cookies()[0].Value == before[0].Value {
		t.Error("the session's token is the same as before")
	}
	var sessions []string
	s.sessionsOf(t, func(ctx context.Context) {
		if ticket, err := tokencache.ParseTicket(s.web.Ticket(ctx)); err == nil {
			sessions = append(sessions, ticket.Encode())
		}
	})
	if len(sessions) != 1 || strings.Count(sessions[0], ".") != 3 {
		t.Errorf("%d sessions; the tokens are not kept apart", len(sessions))
	}
	s.demands(func(*http.Request) error { return interaction(`{"a":{}}`) })
	p.visit(http.MethodGet, "/demand", nil).at(t, http.StatusForbidden, "/demand") // once, as mayStep says
	if n := s.idp.Stats().SignIns; n != 3 {
		t.Errorf("%d sign-ins, want 3", n)
	}
	p.name = "bert"
	p.visit(http.MethodGet, signInPath+"?login_hint=bert", nil).at(t, http.StatusOK, "/")
	p.is("user=bert basket=")
}

// Without WebOptions.Fail, errors are answered with a status and without details.
func TestWebDefaultFail(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	web, err := s.client.Web(s.sessions, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := s.sessions.LoadAndSave(http.HandlerFunc(web.SignIn))
	for accept, want := range map[string]string{"text/html": "That link is not valid.", "application/json": `{"error":"bad_request"}`} {
		r := httptest.NewRequest(http.MethodGet, signInPath+"?return_to=//evil.test", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := strings.TrimSpace(w.Body.String()); w.Code != http.StatusBadRequest || got != want {
			t.Errorf("%s: status %d, %s", accept, w.Code, got)
		}
	}
}

// A sign-in that fails slowly does not undo what another tab has begun meanwhile.
func TestWebFailureBesideAnotherTab(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	p := s.person(t, "anna")
	begin := func(p *person) string {
		return p.one(http.MethodGet, signInPath+"?login_hint=anna", nil).header.Get("Location")
	}
	callback := p.consent(begin(p)).header.Get("Location")
	s.fault(t, idp.Fault{Endpoint: "token", Delay: 500 * time.Millisecond, Status: 503})
	cookies, asked := p.cookies(), s.idp.Stats().TokenRequests.AuthorizationCode
	var wg sync.WaitGroup
	wg.Go(func() {
		p.one(http.MethodGet, callback, nil).at(t, http.StatusTeapot, strings.TrimPrefix(callback, p.base))
	})
	for s.idp.Stats().TokenRequests.AuthorizationCode == asked {
		time.Sleep(time.Millisecond)
	}
	other := s.person(t, "anna").sets(cookies)
	target := begin(other)
	wg.Wait()
	if got := other.one(http.MethodGet, other.consent(target).header.Get("Location"), nil); got.status != http.StatusSeeOther {
		t.Errorf("the other tab: status %d, %v", got.status, s.lastError())
	}
}

// Subjects are compared byte for byte (OpenID Connect Core §2): two that differ in
// case are two users, of whom one gets nothing of the other's.
func TestWebUsersOfOneSpelling(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	_, c := f.client(t, nil)
	sessions := &scs.SessionManager{Store: memstore.NewWithCleanupInterval(0), Lifetime: time.Hour, Codec: scs.GobCodec{}}
	ctx, err := sessions.Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	web, err := c.Web(sessions, &xoauth2.WebOptions{Fail: func(_ http.ResponseWriter, _ *http.Request, err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	signIn := func(subject string) {
		w := httptest.NewRecorder()
		web.SignIn(w, httptest.NewRequestWithContext(ctx, http.MethodGet, signInPath, nil))
		q := f.callback(t, w.Header().Get("Location"), map[string]any{"sub": subject}, nil)
		web.Callback(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/callback?"+q.Encode(), nil))
		if ticket, err := tokencache.ParseTicket(web.Ticket(ctx)); err != nil || ticket.Account() != subject {
			t.Errorf("%v", err)
		}
	}
	signIn("abc")
	sessions.Put(ctx, "basket", "apples")
	signIn("abc")
	if got := sessions.GetString(ctx, "basket"); got != "apples" {
		t.Errorf("the same user has lost what was in the session: %q", got)
	}
	signIn("aBc")
	if got := sessions.GetString(ctx, "basket"); got != "" {
		t.Errorf("another user has %q in the session", got)
	}

	authURL, s, err := c.BeginSignIn(&xoauth2.SignInOptions{Account: "abc"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CompleteSignIn(t.Context(), s, f.callback(t, authURL, map[string]any{"sub": "ABC"}, nil)); !errors.Is(err, xoauth2.ErrOtherUser) {
		t.Errorf("got %v, want ErrOtherUser", err)
	}
	// A home account is made of GUIDs, which have no case.
	authURL, s, err = c.BeginSignIn(&xoauth2.SignInOptions{Account: "abc.def"})
	if err != nil {
		t.Fatal(err)
	}
	home := map[string]any{"client_info": clientInfo("ABC", "DEF")}
	if _, err := c.CompleteSignIn(t.Context(), s, f.callback(t, authURL, nil, home)); err != nil {
		t.Error(err)
	}
}

// stuck is a session store that has stopped answering to what is stored.
type stuck struct{ *scs.SessionManager }

func (stuck) Commit(ctx context.Context) (string, time.Time, error) {
	<-ctx.Done()
	return "", time.Time{}, ctx.Err()
}

// A store that hangs is not waited for, by the requests of the session nor by those of
// other sessions behind them, for as long as their browsers are.
func TestWebSessionHangs(t *testing.T) {
	t.Parallel()
	_, c := newFake(t, "").client(t, nil)
	synctest.Test(t, func(t *testing.T) {
		sessions := &scs.SessionManager{Store: memstore.NewWithCleanupInterval(0), Lifetime: time.Hour, Codec: scs.GobCodec{}}
		ctx, err := sessions.Load(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := sessions.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		web, err := c.Web(stuck{sessions}, &xoauth2.WebOptions{Fail: func(_ http.ResponseWriter, _ *http.Request, err error) {
			if !errors.Is(err, xoauth2.ErrSession) {
				t.Errorf("got %v, want ErrSession", err)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, time.Hour) // the browser's patience
				defer cancel()
				web.SignIn(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, signInPath, nil))
			})
		}
		wg.Wait()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}
