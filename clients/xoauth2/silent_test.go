package xoauth2_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// desk is a person's machine: what programs on it have stored, and the server that they
// sign in at with the ID of a public client.
type desk struct {
	idp    *idp.Server
	issuer string
	store  *breakable
}

func newDesk(t *testing.T, entra bool) *desk {
	t.Helper()
	s := listen(t, &idp.Options{
		DeviceInterval: time.Second,
		Clients:        []idp.Client{{ID: idp.DefaultClientID, Public: true, RedirectURIs: []string{callbackURL}}},
	})
	d := &desk{idp: s, issuer: s.URL(), store: &breakable{Provider: newProvider(t)}}
	if entra {
		d.issuer = s.TenantURL()
	}
	return d
}

// breakable is a provider that can go down.
type breakable struct {
	tokencache.Provider
	down atomic.Bool
}

func (b *breakable) Load(ctx context.Context, n tokencache.Name) (tokencache.Record, error) {
	if b.down.Load() {
		return tokencache.Record{}, errors.New("the store is down")
	}
	return b.Provider.Load(ctx, n)
}

// process starts a program.
func (d *desk) process(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{idp: d.idp, cache: cacheOn(t, d.store, d.issuer, nil)}
	f.client = newClient(t, f.cache, &xoauth2.Options{
		RedirectURL: callbackURL, Scopes: []string{"profile", apiScope}, HTTPClient: httpClient(t),
	})
	return f
}

// of is the context of a user of the program's.
func (f *fixture) of(t *testing.T, ticket tokencache.Ticket) context.Context {
	return tokencache.NewContext(t.Context(), f.cache.Partition(ticket.Key()))
}

func (f *fixture) record(t *testing.T, ticket tokencache.Ticket) xoauth2.AuthenticationRecord {
	t.Helper()
	r, err := f.client.AuthenticationRecord(t.Context(), ticket)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// saved is a record after it was in a file.
func saved(t *testing.T, r xoauth2.AuthenticationRecord) xoauth2.AuthenticationRecord {
	t.Helper()
	again, err := xoauth2.ParseAuthenticationRecord(r.Encode())
	if err != nil || again != r {
		t.Fatalf("the record does not come back: %v", err)
	}
	return again
}

func TestSignInSilently(t *testing.T) {
	t.Parallel()
	for name, entra := range map[string]bool{"plain": false, "entra": true} {
		for how, signIn := range map[string]func(*fixture) tokencache.Ticket{
			"browser": func(f *fixture) tokencache.Ticket { return f.ticket(t, "anna", nil) },
			"device": func(f *fixture) tokencache.Ticket {
				ctx, err := f.signInDevice(t, "anna")
				if err != nil {
					t.Fatal(err)
				}
				p, _ := f.cache.FromContext(ctx)
				ticket, err := p.Ticket(ctx)
				if err != nil {
					t.Fatal(err)
				}
				return ticket
			},
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				d := newDesk(t, entra)
				first := d.process(t)
				first.ticket(t, "bob", nil) // somebody else on the machine
				ticket := signIn(first)
				r := first.record(t, ticket)
				want := xoauth2.AuthenticationRecord{
					Authority: d.idp.URL(), ClientID: idp.DefaultClientID, HomeAccountID: ticket.Account(),
					TenantID: idp.DefaultTenant, Username: "anna@contoso.test", Version: "1.0",
				}
				if r != want || strings.Contains(string(r.Encode()), "eyJ") {
					t.Errorf("got %s", r.Encode())
				}

				second, before := d.process(t), d.idp.Stats()
				again, err := second.client.SignInSilently(t.Context(), saved(t, r))
				if err != nil || again != ticket {
					t.Fatalf("another ticket, or %v", err)
				}
				tok, err := second.client.Token(second.of(t, again))
				if err != nil || tok.Source == tokencache.SourceServer {
					t.Errorf("a token from the %s, %v", tok.Source, err)
				}
				if now := d.idp.Stats(); now.TokenRequests != before.TokenRequests {
					t.Error("the server was asked though there is a token")
				}
				if status, body := second.me(t, tok); status != 200 || !strings.Contains(body, "anna") || strings.Contains(body, "bob") {
					t.Errorf("the API answers %d, or to somebody else", status)
				}

				second.expire(t, second.of(t, again))
				third := d.process(t)
				python := r // as Azure.Identity for Python would have it
				python.Authority = strings.TrimPrefix(r.Authority, "http://")
				if again, err = third.client.SignInSilently(t.Context(), saved(t, python)); err != nil || again != ticket {
					t.Fatalf("after the token has expired: another ticket, or %v", err)
				}
				if now := d.idp.Stats(); now.TokenRequests.RefreshToken != before.TokenRequests.RefreshToken+1 {
					t.Error("the token was not refreshed once")
				}
				if _, err := third.client.SignInSilently(t.Context(), r, mailScope); err != nil {
					t.Errorf("for other scopes: %v", err)
				}
				if tok, err := third.client.Token(third.of(t, again), mailScope); err != nil || tok.Source == tokencache.SourceServer {
					t.Errorf("these were not obtained: %v", err)
				}
			})
		}
	}
}

// TestSilentOutcomes: what a later process is told.
func TestSilentOutcomes(t *testing.T) {
	t.Parallel()
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	interaction := func(err error) bool { var e *tokencache.InteractionRequiredError; return errors.As(err, &e) }
	server := func(err error) bool { var e *tokencache.ServerError; return errors.As(err, &e) }
	expired := func(t *testing.T, _ *desk, f *fixture, ticket tokencache.Ticket) { f.expire(t, f.of(t, ticket)) }
	ended, end := context.WithCancel(t.Context())
	end()
	for name, tt := range map[string]struct {
		do     func(t *testing.T, d *desk, f *fixture, ticket tokencache.Ticket)
		ctx    context.Context
		fails  func(error) bool // nil: it succeeds
		signIn bool             // the user has to sign in again
	}{
		"signed in": {do: func(*testing.T, *desk, *fixture, tokencache.Ticket) {}},
		"expired":   {do: expired},
		"signed in anew": {do: func(t *testing.T, _ *desk, f *fixture, ticket tokencache.Ticket) {
			succeeds(t, f.client.SignOut(f.of(t, ticket)))
			f.ticket(t, "anna", nil)
		}},
		"signed out": {fails: is(tokencache.ErrRemoved), signIn: true, do: func(t *testing.T, _ *desk, f *fixture, ticket tokencache.Ticket) {
			succeeds(t, f.client.SignOut(f.of(t, ticket)))
		}},
		"signed out everywhere": {fails: is(tokencache.ErrNoTokens), signIn: true, do: func(t *testing.T, _ *desk, f *fixture, ticket tokencache.Ticket) {
			succeeds(t, f.client.SignOutEverywhere(f.of(t, ticket)))
		}},
		"another store": {fails: is(tokencache.ErrNoTokens), signIn: true, do: func(t *testing.T, d *desk, _ *fixture, _ tokencache.Ticket) {
			d.store = &breakable{Provider: newProvider(t)}
		}},
		"revoked": {fails: is(tokencache.ErrInvalidGrant), signIn: true, do: func(t *testing.T, d *desk, f *fixture, ticket tokencache.Ticket) {
			expired(t, d, f, ticket)
			_, err := d.idp.RevokeUser("anna")
			succeeds(t, err)
		}},
		"interaction": {fails: interaction, signIn: true, do: func(t *testing.T, d *desk, f *fixture, ticket tokencache.Ticket) {
			expired(t, d, f, ticket)
			succeeds(t, d.idp.RequireInteraction("anna", `{"a":null}`))
		}},
		"server down": {fails: server, do: func(t *testing.T, d *desk, f *fixture, ticket tokencache.Ticket) {
			expired(t, d, f, ticket)
			f.fault(t, idp.Fault{Endpoint: "token", Status: 503, Times: 100})
		}},
		"server down, and a token": {do: func(t *testing.T, _ *desk, f *fixture, _ tokencache.Ticket) {
			f.fault(t, idp.Fault{Endpoint: "token", Status: 503, Times: 100})
		}},
		"store down": {fails: is(tokencache.ErrUnavailable), do: func(_ *testing.T, d *desk, _ *fixture, _ tokencache.Ticket) { d.store.down.Store(true) }},
		"context": {ctx: ended, fails: is(context.Canceled), do: func(t *testing.T, d *desk, f *fixture, ticket tokencache.Ticket) {
			expired(t, d, f, ticket)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, true)
			first := d.process(t)
			ticket := first.ticket(t, "anna", nil)
			r := first.record(t, ticket)
			second := d.process(t) // before the server is down
			tt.do(t, d, first, ticket)
			if name == "another store" {
				second = d.process(t)
			}
			ctx := tt.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			got, err := second.client.SignInSilently(ctx, r)
			switch {
			case tt.fails == nil:
				if err != nil || got.Account() != ticket.Account() {
					t.Fatalf("another account, or %v", err)
				}
				if _, err := second.client.Token(second.of(t, got)); err != nil {
					t.Errorf("the ticket is no good: %v", err)
				}
				return
			case !tt.fails(err):
				t.Errorf("got %v", err)
			}
			if got != (tokencache.Ticket{}) {
				t.Error("there is a ticket beside the error")
			}
			if again := errors.Is(err, tokencache.ErrNoTokens) || interaction(err); again != tt.signIn {
				t.Errorf("the user has to sign in again: %v, with %v", again, err)
			}
			clean(t, err, "anna", ticket.Account(), r.TenantID)
		})
	}
}

func succeeds(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A record is good for the client, the server and the tenant that it is of, and no other.
func TestRecordIsOfThisClient(t *testing.T) {
	t.Parallel()
	for issuer, entra := range map[string]bool{"plain": false, "entra": true} {
		d := newDesk(t, entra)
		f := d.process(t)
		ticket := f.ticket(t, "anna", nil)
		whole := f.record(t, ticket)
		for name, tt := range map[string]struct {
			change func(*xoauth2.AuthenticationRecord)
			text   string // of the error; "": it is accepted
			entra  string // likewise, where it differs
		}{
			"as it is":                   {change: func(*xoauth2.AuthenticationRecord) {}},
			"upper case":                 {change: func(r *xoauth2.AuthenticationRecord) { r.Authority = strings.ToUpper(r.Authority) }},
			"a slash":                    {change: func(r *xoauth2.AuthenticationRecord) { r.Authority += "/" }},
			"the host alone":             {change: func(r *xoauth2.AuthenticationRecord) { _, r.Authority, _ = strings.Cut(r.Authority, "://") }},
			"another user name":          {change: func(r *xoauth2.AuthenticationRecord) { r.Username = "bob" }},
			"no user name":               {change: func(r *xoauth2.AuthenticationRecord) { r.Username = "" }},
			"client, upper case":         {change: func(r *xoauth2.AuthenticationRecord) { r.ClientID = strings.ToUpper(r.ClientID) }, text: "client", entra: "-"},
			"no tenant":                  {change: func(r *xoauth2.AuthenticationRecord) { r.TenantID = "" }, entra: "tenant"},
			"another tenant":             {change: func(r *xoauth2.AuthenticationRecord) { r.TenantID = "marker" }, text: "tenant"},
			"another server":             {change: func(r *xoauth2.AuthenticationRecord) { r.Authority = "https://marker.example" }, text: "server"},
			"another server, host":       {change: func(r *xoauth2.AuthenticationRecord) { r.Authority = "marker.example" }, text: "server"},
			"another port":               {change: func(r *xoauth2.AuthenticationRecord) { r.Authority += "1" }, text: "server"},
			"another scheme":             {change: func(r *xoauth2.AuthenticationRecord) { r.Authority = "https" + r.Authority[4:] }, text: "server"},
			"a path":                     {change: func(r *xoauth2.AuthenticationRecord) { r.Authority += "/marker" }, text: "server"},
			"a user":                     {change: func(r *xoauth2.AuthenticationRecord) { r.Authority = "http://marker@" + r.Authority[7:] }, text: "server"},
			"no authority":               {change: func(r *xoauth2.AuthenticationRecord) { r.Authority = "" }, text: "server"},
			"another client":             {change: func(r *xoauth2.AuthenticationRecord) { r.ClientID = "marker" }, text: "client"},
			"no client":                  {change: func(r *xoauth2.AuthenticationRecord) { r.ClientID = "" }, text: "client"},
			"no account":                 {change: func(r *xoauth2.AuthenticationRecord) { r.HomeAccountID = "" }, text: "account"},
			"another version":            {change: func(r *xoauth2.AuthenticationRecord) { r.Version = "marker" }, text: "version"},
			"a control":                  {change: func(r *xoauth2.AuthenticationRecord) { r.Username = "marker\x1b" }, text: "username"},
			"not UTF-8":                  {change: func(r *xoauth2.AuthenticationRecord) { r.Username = "marker\xff" }, text: "username"},
			"a control in the authority": {change: func(r *xoauth2.AuthenticationRecord) { r.Authority += "\n" }, text: "authority"},
		} {
			want := tt.text
			if entra && tt.entra != "" {
				want = strings.Trim(tt.entra, "-")
			}
			r := whole
			tt.change(&r)
			got, err := f.client.SignInSilently(t.Context(), r)
			switch {
			case want == "" && (err != nil || got != ticket):
				t.Errorf("%s, %s: another ticket, or %v", issuer, name, err)
			case want != "" && (!errors.Is(err, xoauth2.ErrRecord) || !strings.Contains(err.Error(), want) || got != (tokencache.Ticket{})):
				t.Errorf("%s, %s: got %v", issuer, name, err)
			case want != "" && (errors.Is(err, tokencache.ErrNoTokens) || strings.Contains(err.Error(), "marker")):
				t.Errorf("%s, %s: the error tells too much: %v", issuer, name, err)
			}
		}
		if _, err := f.client.SignInSilently(t.Context(), xoauth2.AuthenticationRecord{}); !errors.Is(err, tokencache.ErrNoTokens) || errors.Is(err, xoauth2.ErrRecord) {
			t.Errorf("%s: the zero record: %v", issuer, err)
		}
		other := whole
		other.HomeAccountID = "marker.somebody"
		if _, err := f.client.SignInSilently(t.Context(), other); !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("%s: another account: %v", issuer, err)
		}
	}
}

// Two issuers on one host, as realms of a server are, have records of their own, although
// their accounts have the same names.
func TestRecordOfRealm(t *testing.T) {
	t.Parallel()
	f := newFake(t, "realms/a")
	for _, e := range []string{"authorization_endpoint", "token_endpoint"} {
		f.metadata[e] = f.URL + "/somewhere/token"
	}
	_, c := f.client(t, nil)
	ticket, err := f.signIn(t, c, nil, nil)
	succeeds(t, err)
	r, err := c.AuthenticationRecord(t.Context(), ticket)
	succeeds(t, err)
	if r.Authority != f.URL || r.TenantID != "realms/a/v2.0" || r.HomeAccountID != "subject-1" {
		t.Errorf("got %s", r.Encode())
	}
	if again, err := c.SignInSilently(t.Context(), saved(t, r)); err != nil || again != ticket {
		t.Errorf("another ticket, or %v", err)
	}
	r.TenantID = "realms/b/v2.0"
	if _, err := c.SignInSilently(t.Context(), r); !errors.Is(err, xoauth2.ErrRecord) {
		t.Errorf("of another realm: %v", err)
	}
}

// An endpoint for several tenants takes the users of each; the record names the user's.
func TestRecordOfSeveralTenants(t *testing.T) {
	t.Parallel()
	f := newFake(t, "organizations")
	f.metadata["issuer"] = f.URL + "/{tenantid}/v2.0"
	_, c := f.client(t, nil)
	const oid, tenant, guest = "33333333-2222-3333-4444-555555555555", home, "44444444-2222-3333-4444-555555555555"
	ticket, err := f.signIn(t, c,
		map[string]any{"iss": f.URL + "/" + tenant + "/v2.0", "tid": tenant, "oid": oid, "preferred_username": "anna@contoso.test"},
		map[string]any{"client_info": clientInfo(oid, tenant)})
	succeeds(t, err)
	r, err := c.AuthenticationRecord(t.Context(), ticket)
	succeeds(t, err)
	want := xoauth2.AuthenticationRecord{
		Authority: f.URL, ClientID: idp.DefaultClientID, HomeAccountID: oid + "." + tenant, TenantID: tenant,
		Username: "anna@contoso.test", Version: "1.0",
	}
	if r != want {
		t.Errorf("got %s", r.Encode())
	}
	for id, good := range map[string]bool{tenant: true, guest: true, "": false, "a/b": false, "..": false} {
		r.TenantID = id
		if _, err := c.SignInSilently(t.Context(), r); good != (err == nil) || !good && !errors.Is(err, xoauth2.ErrRecord) {
			t.Errorf("tenant %q: %v", id, err)
		}
	}
}

// What the server says of a user goes into a record only if it can be read again.
func TestRecordOfOddAccounts(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		claims   map[string]any
		username string
		bad      bool
	}{
		"no name":        {claims: map[string]any{}},
		"umlauts":        {claims: map[string]any{"preferred_username": "zoë 𝄞 <\"\\>"}, username: "zoë 𝄞 <\"\\>"},
		"terminal codes": {claims: map[string]any{"preferred_username": "marker\x1b[31m"}},
		"right to left":  {claims: map[string]any{"preferred_username": "marker\u202e"}},
		"odd subject":    {claims: map[string]any{"sub": "marker\u0001"}, bad: true},
	} {
		f := newFake(t, "")
		_, c := f.client(t, nil)
		ticket, err := f.signIn(t, c, tt.claims, nil)
		succeeds(t, err)
		r, err := c.AuthenticationRecord(t.Context(), ticket)
		if tt.bad {
			if !errors.Is(err, xoauth2.ErrRecord) || r != (xoauth2.AuthenticationRecord{}) {
				t.Errorf("%s: got %v", name, err)
			}
			clean(t, err, "marker")
			continue
		}
		if err != nil || r.Username != tt.username || r.TenantID != "" || r.HomeAccountID != "subject-1" {
			t.Errorf("%s: got %s, %v", name, r.Encode(), err)
			continue
		}
		if _, err := c.SignInSilently(t.Context(), saved(t, r)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The tokens of a session of its own are found with its ticket alone.
func TestNoRecordOfSession(t *testing.T) {
	t.Parallel()
	d := newDesk(t, true)
	f := d.process(t)
	ticket := f.ticket(t, "anna", &xoauth2.SignInOptions{Session: "marker-session"})
	if _, err := f.client.AuthenticationRecord(t.Context(), ticket); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if _, err := f.client.AuthenticationRecord(t.Context(), tokencache.Ticket{}); err == nil {
		t.Error("the zero ticket has a record")
	}
	own := f.ticket(t, "anna", nil)
	succeeds(t, f.client.SignOut(f.of(t, own)))
	if _, err := f.client.AuthenticationRecord(t.Context(), own); !errors.Is(err, tokencache.ErrRemoved) {
		t.Errorf("signed out: %v", err)
	}
}

// Who is signed in anew by another process meanwhile need not sign in once more.
func TestSilentDuringSignIn(t *testing.T) {
	t.Parallel()
	d := newDesk(t, true)
	first, second := d.process(t), d.process(t)
	ticket := first.ticket(t, "anna", nil)
	r := first.record(t, ticket)
	first.expire(t, first.of(t, ticket))
	first.fault(t, idp.Fault{Endpoint: "token", Delay: time.Second, Times: 1})
	type result struct {
		ticket tokencache.Ticket
		err    error
	}
	results := make(chan result, 1)
	go func() {
		got, err := second.client.SignInSilently(t.Context(), r)
		results <- result{got, err}
	}()
	for d.idp.Stats().TokenRequests.RefreshToken == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	succeeds(t, first.client.SignOut(first.of(t, ticket)))
	anew := first.ticket(t, "anna", nil)
	got := <-results
	if got.err != nil || got.ticket != anew {
		t.Errorf("another ticket, or %v", got.err)
	}
	if _, err := second.client.Token(second.of(t, anew)); err != nil {
		t.Error(err)
	}
}
