package xoauth2_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// fake is an authorization server that answers what a test wants.
type fake struct {
	*httptest.Server
	tenant string // of an issuer in Entra ID's form, or ""
	iss    string // of callbacks, or ""
	key    *rsa.PrivateKey

	keysAsked atomic.Int64

	mu       sync.Mutex
	metadata map[string]any
	answers  []reply         // of the token endpoint, in turn; the last one stays
	requests []*http.Request // to POST endpoints, forms parsed
}

// reply is one answer. Its body is JSON of a map, or a string as it is.
type reply struct {
	status int
	header http.Header
	body   any
}

var signingKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newFake(t *testing.T, tenant string) *fake {
	t.Helper()
	key, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{tenant: tenant, key: key}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	base := f.URL
	if tenant != "" {
		base += "/" + tenant + "/oauth2/v2.0"
	}
	f.metadata = map[string]any{
		"issuer": f.issuer(), "authorization_endpoint": base + "/authorize", "token_endpoint": base + "/token",
		"jwks_uri": f.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
	}
	return f
}

func (f *fake) issuer() string {
	if f.tenant == "" {
		return f.URL
	}
	return f.URL + "/" + f.tenant + "/v2.0"
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		_ = json.NewEncoder(w).Encode(f.metadata)
	case r.URL.Path == "/keys":
		f.keysAsked.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: f.key.Public(), KeyID: "1", Use: "sig"}}})
	case r.Method == http.MethodPost && len(f.answers) > 0:
		_ = r.ParseForm()
		f.requests = append(f.requests, r)
		a := f.answers[0]
		if len(f.answers) > 1 {
			f.answers = f.answers[1:]
		}
		maps.Copy(w.Header(), a.header)
		w.WriteHeader(max(a.status, 200))
		if text, ok := a.body.(string); ok {
			_, _ = w.Write([]byte(text))
			return
		}
		_ = json.NewEncoder(w).Encode(a.body)
	default:
		http.NotFound(w, r)
	}
}

// roundTrip answers a request without a network.
func (f *fake) roundTrip(r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	f.serve(w, r)
	resp := w.Result()
	resp.Request = r
	return resp
}

// answer sets the answers to come.
func (f *fake) answer(replies ...reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers = replies
}

// last is the last request to a POST endpoint.
func (f *fake) last(t *testing.T) *http.Request {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.requests) == 0 {
		t.Fatal("nothing was posted")
	}
	return f.requests[len(f.requests)-1]
}

// idToken signs an ID token; claims override what is usual.
func (f *fake) idToken(t *testing.T, claims map[string]any) string {
	t.Helper()
	all := map[string]any{
		"iss": f.issuer(), "aud": idp.DefaultClientID, "sub": "subject-1",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	maps.Copy(all, claims)
	return f.sign(t, jose.RS256, f.key, all)
}

func (f *fake) sign(t *testing.T, alg jose.SignatureAlgorithm, key any, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "1"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// client returns a client of the fake. The options may be nil.
func (f *fake) client(t *testing.T, o *xoauth2.Options) (*tokencache.Cache, *xoauth2.Client) {
	t.Helper()
	if o == nil {
		o = &xoauth2.Options{ClientSecret: "marker secret/ü", Scopes: []string{"read"}}
	}
	o.RedirectURL = callbackURL
	o.HTTPClient = httpClient(t)
	cache := newCache(t, f.issuer(), nil)
	return cache, newClient(t, cache, o)
}

// signIn completes a sign-in whose ID token has the claims and whose response
// has the members.
func (f *fake) signIn(t *testing.T, c *xoauth2.Client, claims, members map[string]any) (tokencache.Ticket, error) {
	t.Helper()
	authURL, s, err := c.BeginSignIn(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.CompleteSignIn(t.Context(), s, f.callback(t, authURL, claims, members))
}

// callback makes the fake answer a sign-in that was begun, and returns what the browser
// brings back.
func (f *fake) callback(t *testing.T, authURL string, claims, members map[string]any) url.Values {
	t.Helper()
	u, err := url.Parse(authURL)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"nonce": u.Query().Get("nonce")}
	maps.Copy(all, claims)
	body := tokens(map[string]any{"id_token": f.idToken(t, all)})
	maps.Copy(body, members)
	f.answer(reply{body: body})
	callback := url.Values{"state": {u.Query().Get("state")}, "code": {"marker-code"}}
	if f.iss != "" {
		callback.Set("iss", f.iss)
	}
	return callback
}

// mustSignIn returns the context of a request of the user.
func (f *fake) mustSignIn(t *testing.T, cache *tokencache.Cache, c *xoauth2.Client, claims, members map[string]any) context.Context {
	t.Helper()
	ticket, err := f.signIn(t, c, claims, members)
	if err != nil {
		t.Fatal(err)
	}
	return tokencache.NewContext(t.Context(), cache.Partition(ticket.Key()))
}

// tokens is a token response.
func tokens(members map[string]any) map[string]any {
	body := map[string]any{
		"access_token": "marker-access-token", "token_type": "bearer", "expires_in": 3600, "refresh_token": "marker-refresh-1",
	}
	maps.Copy(body, members)
	return body
}

func clientInfo(uid, utid string) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"uid":%q,"utid":%q}`, uid, utid))
}
