package xoauth2_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestIDToken(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	_, c := f.client(t, nil)
	now := time.Now()
	tests := map[string]struct {
		claims map[string]any
		raw    string // instead of claims
		says   string // of ErrIDToken; empty: it is good
	}{
		"good":                    {},
		"several audiences":       {claims: map[string]any{"aud": []string{idp.DefaultClientID, "b"}, "azp": idp.DefaultClientID}},
		"issuer":                  {claims: map[string]any{"iss": "https://evil.example"}, says: "issuer"},
		"audience":                {claims: map[string]any{"aud": "marker-other"}, says: "audience"},
		"authorized party":        {claims: map[string]any{"aud": []string{idp.DefaultClientID, "b"}, "azp": "b"}, says: "authorized party"},
		"no authorized party":     {claims: map[string]any{"aud": []string{idp.DefaultClientID, "b"}}, says: "authorized party"},
		"expired":                 {claims: map[string]any{"exp": now.Add(-time.Minute).Unix()}, says: "expiry"},
		"not yet valid":           {claims: map[string]any{"nbf": now.Add(time.Hour).Unix()}, says: "start of validity"},
		"no subject":              {claims: map[string]any{"sub": ""}, says: "subject"},
		"long subject":            {claims: map[string]any{"sub": strings.Repeat("s", 256)}, says: "subject"},
		"no nonce":                {claims: map[string]any{"nonce": ""}, says: "nonce"},
		"nonce of another":        {claims: map[string]any{"nonce": "marker-nonce"}, says: "nonce"},
		"claims of another shape": {claims: map[string]any{"name": 5}, says: "claims"},
		"no JWT":                  {raw: "marker", says: "form"},
		"alg none":                {raw: "eyJhbGciOiJub25lIn0.e30.", says: "algorithm"},
		"MAC of the secret": {
			raw: f.sign(t, jose.HS256, []byte(strings.Repeat("marker secret", 3)), map[string]any{"iss": f.URL}), says: "algorithm",
		},
		"none": {raw: "-", says: "there is none"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			members := map[string]any{}
			if tt.raw != "" {
				members["id_token"] = strings.TrimSuffix(tt.raw, "-")
			}
			_, err := f.signIn(t, c, tt.claims, members)
			if (err != nil) != (tt.says != "") || err != nil && (!errors.Is(err, xoauth2.ErrIDToken) || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
			clean(t, err, "marker", "evil", "subject-1")
		})
	}
	body := strings.Split(f.idToken(t, nil), ".")
	body[1] = strings.Split(f.idToken(t, map[string]any{"sub": "forged"}), ".")[1]
	_, err := f.signIn(t, c, nil, map[string]any{"id_token": strings.Join(body, ".")})
	if !errors.Is(err, xoauth2.ErrIDToken) || !strings.Contains(err.Error(), "signature") {
		t.Errorf("a forged token: got %v", err)
	}
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	const home = "11111111-2222-3333-4444-555555555555"
	const guest = "99999999-2222-3333-4444-555555555555"
	f := newFake(t, home)
	_, c := f.client(t, nil)
	claims := map[string]any{"oid": "O-1", "tid": home}
	tests := map[string]struct {
		claims     map[string]any
		clientInfo string
		want       string
		err        error
	}{
		"home":                {claims: claims, clientInfo: clientInfo("o-1", home), want: "o-1." + home},
		"padded":              {claims: claims, clientInfo: clientInfo("o-1", home) + "==", want: "o-1." + home},
		"B2C policy":          {claims: claims, clientInfo: clientInfo("o-1-B2C_1_signin", home), want: "o-1-B2C_1_signin." + home},
		"guest":               {claims: claims, clientInfo: clientInfo("g-7", guest), want: "g-7." + guest},
		"no oid":              {clientInfo: clientInfo("o-1", home), want: "o-1." + home},
		"no client_info":      {claims: claims, want: "subject-1"},
		"not base64":          {claims: claims, clientInfo: "!", want: "subject-1"},
		"not JSON":            {claims: claims, clientInfo: "AAAA", want: "subject-1"},
		"half":                {claims: claims, clientInfo: clientInfo("o-1", ""), want: "subject-1"},
		"ambiguous":           {claims: claims, clientInfo: clientInfo("o.1", "x"), want: "subject-1"},
		"another of the home": {claims: claims, clientInfo: clientInfo("o-2", home), err: xoauth2.ErrIDToken},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ticket, err := f.signIn(t, c, tt.claims, map[string]any{"client_info": tt.clientInfo})
			if ticket.Account() != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %q, %v; want %q, %v", ticket.Account(), err, tt.want, tt.err)
			}
		})
	}
	if f.last(t).PostForm.Get("client_info") != "1" {
		t.Error("client_info was not asked for")
	}
}

// TestSeveralTenants is Entra ID's common endpoint, whose issuer is a template.
func TestSeveralTenants(t *testing.T) {
	t.Parallel()
	const tenant = "22222222-2222-3333-4444-555555555555"
	f := newFake(t, "common")
	f.metadata["issuer"] = f.URL + "/{tenantid}/v2.0"
	cache, c := f.client(t, nil)
	issuer := f.URL + "/" + tenant + "/v2.0"
	ctx := f.mustSignIn(t, cache, c, map[string]any{"iss": issuer, "tid": tenant}, nil)
	f.answer(reply{body: tokens(map[string]any{"id_token": f.idToken(t, map[string]any{"iss": issuer, "tid": tenant})})})
	if _, err := c.Acquire(ctx, tokencache.Request{Scopes: []string{"other"}, Tenant: "contoso.example"}); err != nil {
		t.Error(err)
	}
	if got := f.last(t).URL.Path; got != "/contoso.example/oauth2/v2.0/token" {
		t.Errorf("the token came from %s", got)
	}
	for name, claims := range map[string]map[string]any{
		"the template":    {"iss": f.URL + "/{tenantid}/v2.0", "tid": "{tenantid}"},
		"another tenant":  {"iss": issuer, "tid": "33333333-2222-3333-4444-555555555555"},
		"no tenant":       {"iss": issuer},
		"another server":  {"iss": "https://evil.example/" + tenant + "/v2.0", "tid": tenant},
		"tenant and path": {"iss": f.URL + "/x/../" + tenant + "/v2.0", "tid": "x/../" + tenant},
	} {
		if _, err := f.signIn(t, c, claims, nil); !errors.Is(err, xoauth2.ErrIDToken) || !strings.Contains(err.Error(), "issuer") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for iss, want := range map[string]error{
		issuer: nil, f.URL + "/{tenantid}/v2.0": nil,
		"https://evil.example/" + tenant + "/v2.0": xoauth2.ErrCallback, f.URL + "/a/b/v2.0": xoauth2.ErrCallback,
	} {
		f.iss = iss
		if _, err := f.signIn(t, c, map[string]any{"iss": issuer, "tid": tenant}, nil); !errors.Is(err, want) {
			t.Errorf("iss %s: got %v, want %v", iss, err, want)
		}
	}
}
