package xoauth2_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// accessToken signs an access token; claims override what is usual.
func (f *fake) accessToken(t *testing.T, typ string, key *rsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	all := map[string]any{
		"iss": f.issuer(), "aud": "api://mine", "sub": "subject-1", "scp": "Read Write",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	maps.Copy(all, claims)
	o := (&jose.SignerOptions{}).WithHeader("kid", "1")
	if typ != "" {
		o = o.WithType(jose.ContentType(typ))
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(all).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestVerifier(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	_, c := f.client(t, nil)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	good := f.accessToken(t, "JWT", f.key, nil)
	body := strings.Split(good, ".")
	body[1] = strings.Split(f.accessToken(t, "JWT", f.key, map[string]any{"sub": "forged"}), ".")[1]
	type m = map[string]any
	for name, tt := range map[string]struct {
		claims m
		typ    string
		key    *rsa.PrivateKey
		raw    string // instead of all that
		says   string // of ErrAccessToken; empty: it is good
	}{
		"good":                   {},
		"of RFC 9068":            {typ: "at+jwt", claims: m{"scp": nil, "scope": "Read"}},
		"with its media type":    {typ: "application/at+JWT", claims: m{"scp": nil}},
		"roles alone":            {typ: "JWT", claims: m{"scp": nil, "roles": []string{"Reader"}, "azp": "b"}, says: "type"},
		"a hash of a code":       {claims: m{"c_hash": "x"}, says: "type"},
		"a nonce":                {claims: m{"nonce": "marker"}, says: "type"},
		"events":                 {typ: "JWT", claims: m{"events": m{}}, says: "type"},
		"another spelling":       {raw: respell(good), says: "form"},
		"with a line feed":       {raw: good + "\n", says: "form"},
		"scopes as a list":       {claims: m{"scp": []string{"Read"}}},
		"several audiences":      {claims: m{"aud": []string{"other", "api://mine"}}},
		"an ID token":            {claims: m{"scp": nil}, typ: "JWT", says: "type"},
		"a logout token":         {typ: "logout+jwt", says: "type"},
		"issuer":                 {claims: m{"iss": "https://evil.example"}, says: "issuer"},
		"audience":               {claims: m{"aud": "marker-other"}, says: "audience"},
		"no audience":            {claims: m{"aud": nil}, says: "audience"},
		"expired":                {claims: m{"exp": now.Add(-time.Minute).Unix()}, says: "expiry"},
		"no expiry":              {claims: m{"exp": nil}, says: "form"},
		"not yet valid":          {claims: m{"nbf": now.Add(time.Hour).Unix()}, says: "start of validity"},
		"no subject":             {claims: m{"sub": ""}, says: "subject"},
		"long subject":           {claims: m{"sub": strings.Repeat("s", 256)}, says: "subject"},
		"another shape":          {claims: m{"scp": 5}, says: "claims"},
		"another key":            {key: stranger, says: "signature"},
		"altered":                {raw: strings.Join(body, "."), says: "signature"},
		"huge":                   {claims: m{"x": strings.Repeat("x", 16<<10)}, says: "size"},
		"no JWT":                 {raw: "marker", says: "form"},
		"alg none":               {raw: "eyJhbGciOiJub25lIn0." + body[1] + ".", says: "algorithm"},
		"MAC of the secret":      {raw: f.sign(t, jose.HS256, []byte(strings.Repeat("marker secret", 3)), m{"iss": f.URL}), says: "algorithm"},
		"header of another kind": {raw: base64.RawURLEncoding.EncodeToString([]byte(`[]`)) + "." + body[1] + "." + body[2], says: "form"},
	} {
		raw := tt.raw
		if raw == "" {
			raw = f.accessToken(t, tt.typ, slices.DeleteFunc([]*rsa.PrivateKey{tt.key, f.key}, func(k *rsa.PrivateKey) bool { return k == nil })[0], tt.claims)
		}
		claims, err := c.Verifier("api://mine").Verify(t.Context(), raw)
		if (err != nil) != (tt.says != "") || err != nil && (!errors.Is(err, xoauth2.ErrAccessToken) || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.says)
		}
		if (claims.Account != "") != (tt.says == "") {
			t.Errorf("%s: account %q", name, claims.Account)
		}
		clean(t, err, "marker", "evil", "subject-1")
	}
}

// What the token says of its bearer.
func TestVerifierClaims(t *testing.T) {
	t.Parallel()
	const tenant = "11111111-2222-3333-4444-555555555555"
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	claims := map[string]any{
		"aud": idp.DefaultClientID, "oid": "o-1", "tid": tenant, "scp": "A B", "scope": "B C", "exp": expires.Unix(),
	}
	for name, tt := range map[string]struct{ tenant, account string }{
		"plain": {account: "subject-1"}, "entra": {tenant: tenant, account: "o-1." + tenant},
	} {
		f := newFake(t, tt.tenant)
		_, c := f.client(t, nil)
		got, err := c.Verifier().Verify(t.Context(), f.accessToken(t, "JWT", f.key, claims))
		if err != nil {
			t.Fatal(err)
		}
		if got.Account != tt.account || got.Tenant != tenant || !got.Expires.Equal(expires) || fmt.Sprint(got.Scopes) != "[B C A]" {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// Keys that cannot be had say nothing about a token.
func TestVerifierWithoutKeys(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	_, c := f.client(t, nil)
	raw := f.accessToken(t, "JWT", f.key, map[string]any{"aud": idp.DefaultClientID})
	f.Close()
	_, err := c.Verifier().Verify(t.Context(), raw)
	var down *tokencache.ServerError
	if !errors.As(err, &down) || errors.Is(err, xoauth2.ErrAccessToken) {
		t.Errorf("the server is down: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Verifier().Verify(ctx, raw); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller has left: %v", err)
	}
}

// respell returns the same token with other spare bits at the end of its signature.
func respell(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last|1])
}

// On Entra ID, an application's own token has roles, and so may have an ID token; an
// application elsewhere is no user, whatever it calls itself.
func TestVerifierOfApplications(t *testing.T) {
	t.Parallel()
	const tenant = "11111111-2222-3333-4444-555555555555"
	type m = map[string]any
	roles := m{"aud": idp.DefaultClientID, "oid": "o-1", "tid": tenant, "scp": nil, "roles": []string{"Reader"}}
	f := newFake(t, tenant)
	_, c := f.client(t, nil)
	if _, err := c.Verifier().Verify(t.Context(), f.accessToken(t, "JWT", f.key, roles)); !errors.Is(err, xoauth2.ErrAccessToken) {
		t.Errorf("an ID token with roles: %v", err)
	}
	roles["azp"] = "daemon"
	if got, err := c.Verifier().Verify(t.Context(), f.accessToken(t, "JWT", f.key, roles)); err != nil || got.Account != "o-1."+tenant {
		t.Errorf("a daemon's token: %v", err)
	}
	f = newFake(t, "")
	_, c = f.client(t, nil)
	own := f.accessToken(t, "at+jwt", f.key, m{"aud": idp.DefaultClientID, "client_id": "subject-1"})
	if got, err := c.Verifier().Verify(t.Context(), own); err != nil || got.Account != "client subject-1" {
		t.Errorf("an application's token names %q, %v", got.Account, err)
	}
}

// Forged tokens do not make the server be asked for its keys over and over.
func TestVerifierAsksForKeysOnce(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	_, c := f.client(t, nil)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		_, err := c.Verifier().Verify(t.Context(), f.accessToken(t, "JWT", stranger, nil))
		if !errors.Is(err, xoauth2.ErrAccessToken) {
			t.Errorf("a forged token: %v", err)
		}
	}
	if got := f.keysAsked.Load(); got != 1 {
		t.Errorf("the keys were asked for %d times", got)
	}
	if _, err := c.Verifier("api://mine").Verify(t.Context(), f.accessToken(t, "JWT", f.key, nil)); err != nil {
		t.Error(err)
	}
}
