package idp_test

import (
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

func TestListenRefusesAddresses(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "127.0.0.1", "127.0.0.1:x", ""} {
		s, err := idp.Listen(addr, nil)
		if err == nil {
			_ = s.Close(t.Context())
			t.Errorf("%q was accepted", addr)
			continue
		}
		if !strings.HasPrefix(err.Error(), "idp: ") {
			t.Errorf("%q: error %q does not say where it is from", addr, err)
		}
	}
	if _, err := idp.Listen("0.0.0.0:0", nil); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("error %v does not say what is allowed", err)
	}
}

func TestListenByName(t *testing.T) {
	t.Parallel()
	s, err := idp.Listen("localhost:0", nil)
	if err != nil {
		t.Skip("localhost does not resolve:", err)
	}
	defer func() { _ = s.Close(t.Context()) }()
	if !strings.HasPrefix(s.URL(), "http://localhost:") || get(t, s.URL()+"/keys").status != 200 {
		t.Errorf("URL %s", s.URL())
	}
}

func TestListenAddressInUse(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	if _, err := idp.Listen(strings.TrimPrefix(s.URL(), "http://"), nil); err == nil {
		t.Error("two servers on one port")
	}
}

func TestOptionsAreValidated(t *testing.T) {
	t.Parallel()
	client := func(change func(*idp.Client)) *idp.Options {
		c := idp.Client{ID: "c", Secret: "s", RedirectURIs: []string{"http://127.0.0.1/"}}
		change(&c)
		return &idp.Options{Clients: []idp.Client{c}}
	}
	redirect := func(uri string) *idp.Options {
		return client(func(c *idp.Client) { c.RedirectURIs = []string{uri} })
	}
	for name, o := range map[string]*idp.Options{
		"tenant with slash":   {Tenant: "a/b"},
		"tenant of dots":      {Tenant: ".."},
		"tenant with braces":  {Tenant: "{x}"},
		"long tenant":         {Tenant: strings.Repeat("a", 65)},
		"negative lifetime":   {TokenLifetime: -time.Second},
		"lifetime too short":  {TokenLifetime: time.Millisecond},
		"capable, too long":   {CAETokenLifetime: 25 * time.Hour},
		"lifetime too long":   {TokenLifetime: 25 * time.Hour},
		"no client ID":        client(func(c *idp.Client) { c.ID = "" }),
		"no secret":           client(func(c *idp.Client) { c.Secret = "" }),
		"public with secret":  client(func(c *idp.Client) { c.Public = true }),
		"public API":          client(func(c *idp.Client) { c.Public, c.Secret, c.Audiences = true, "", []string{"api://c"} }),
		"short device life":   {DeviceLifetime: time.Millisecond},
		"long device life":    {DeviceLifetime: 2 * time.Hour},
		"broken interval":     {DeviceInterval: 1500 * time.Millisecond},
		"long interval":       {DeviceInterval: 2 * time.Minute},
		"no redirect URI":     client(func(c *idp.Client) { c.RedirectURIs = nil }),
		"relative redirect":   redirect("/callback"),
		"fragment":            redirect("http://127.0.0.1/#x"),
		"user information":    redirect("http://a@127.0.0.1/"),
		"no host":             redirect("http:///callback"),
		"script":              redirect("javascript:alert(1)"),
		"bad logout redirect": client(func(c *idp.Client) { c.PostLogoutRedirectURIs = []string{"x"} }),
		"logout over http":    client(func(c *idp.Client) { c.BackChannelLogoutURI = "http://app.test/logout" }),
		"relative logout":     client(func(c *idp.Client) { c.BackChannelLogoutURI = "/logout" }),
		"logout fragment":     client(func(c *idp.Client) { c.BackChannelLogoutURI = "https://app.test/#x" }),
		"logout scheme":       client(func(c *idp.Client) { c.BackChannelLogoutURI = "ftp://app.test/" }),
		"logout user":         client(func(c *idp.Client) { c.BackChannelLogoutURI = "https://a@app.test/" }),
		"empty audience":      client(func(c *idp.Client) { c.Audiences = []string{""} }),
		"audience of control": client(func(c *idp.Client) { c.Audiences = []string{"api://a\n"} }),
		"audience claimed twice": {Clients: []idp.Client{
			{ID: "c", Secret: "s", Audiences: []string{"api://a"}},
			{ID: "d", Secret: "s", Audiences: []string{"api://a"}},
		}},
		"another client's ID as audience": {Clients: []idp.Client{
			{ID: "c", Secret: "s", Audiences: []string{"d"}},
			{ID: "d", Secret: "s", Audiences: []string{"api://d"}},
		}},
		"same client twice": {Clients: []idp.Client{
			{ID: "c", Secret: "s", RedirectURIs: []string{"http://127.0.0.1/"}},
			{ID: "c", Secret: "t", RedirectURIs: []string{"http://127.0.0.1/"}},
		}},
	} {
		if s, err := idp.Listen("127.0.0.1:0", o); err == nil {
			_ = s.Close(t.Context())
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTenantOption(t *testing.T) {
	t.Parallel()
	s := listen(t, &idp.Options{Tenant: "My.Tenant-1"})
	if want := s.URL() + "/My.Tenant-1/v2.0"; s.TenantURL() != want {
		t.Errorf("TenantURL %s, want %s", s.TenantURL(), want)
	}
	if tid := payload(t, signIn(t, entra(s), "anna").IDToken)["tid"]; tid != "My.Tenant-1" {
		t.Errorf("tid %v", tid)
	}
	lower := strings.Replace(s.TenantURL(), "My.Tenant-1", "my.tenant-1", 1)
	if a := get(t, lower+"/.well-known/openid-configuration"); a.json(t)["issuer"] != s.TenantURL() {
		t.Errorf("tenant in another case: %d %s", a.status, a.body)
	}
}

func TestCloseTwice(t *testing.T) {
	t.Parallel()
	s := listen(t, nil)
	for range 2 {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
