package msal_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	"golang.org/x/oauth2"

	"github.com/coatcheck-go/coatcheck/internal/idp"
)

const (
	stageAPI      = idp.DefaultAudience + "/Data.Read"
	stageMail     = "api://mail/Read"
	stageCallback = "http://127.0.0.1/callback"

	middleTierID     = "coatcheck-middle-tier"
	middleTierSecret = "marker-middle-tier-secret"
)

// stage is MSAL Go as it is, at a local authorization server on https.
type stage struct {
	t    *testing.T
	idp  *idp.Server
	http *http.Client

	mu    sync.Mutex
	paths map[string]int // requests, by the end of their path
	forms []url.Values   // of token requests
	// answer, unless nil, changes the answer of the token endpoint.
	answer func(*http.Response)
}

// newStage starts a server. All of its users sign in by being named.
func newStage(t *testing.T) *stage {
	t.Helper()
	w := &stage{t: t, paths: map[string]int{}}
	web := idp.Client{ID: idp.DefaultClientID, Secret: idp.DefaultClientSecret, RedirectURIs: []string{stageCallback}}
	api := idp.Client{ID: middleTierID, Secret: middleTierSecret, Audiences: []string{idp.DefaultAudience}}
	var err error
	w.idp, err = idp.Listen("127.0.0.1:0", &idp.Options{TLS: true, AutoLogin: true, Clients: []idp.Client{web, api}})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: w.idp.CertPool(), MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 32,
	}
	w.http = &http.Client{
		Transport:     roundTripper(func(r *http.Request) (*http.Response, error) { return w.roundTrip(transport, r) }),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := w.idp.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return w
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// roundTrip counts, and brings instance discovery, which is asked of
// login.microsoftonline.com, to the local server.
func (w *stage) roundTrip(next http.RoundTripper, r *http.Request) (*http.Response, error) {
	end := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	local, _ := url.Parse(w.idp.URL())
	if r.URL.Host != local.Host {
		r = r.Clone(r.Context())
		r.URL.Host, r.Host = local.Host, local.Host
	}
	if end == "token" && r.GetBody != nil {
		if err := w.keepForm(r); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	w.paths[end]++
	answer := w.answer
	w.mu.Unlock()
	resp, err := next.RoundTrip(r)
	if err == nil && end == "token" && answer != nil {
		answer(resp)
		if cause := r.Context().Err(); cause != nil { // as if it had not come yet
			resp.Body.Close()
			return nil, cause
		}
	}
	return resp, err
}

func (w *stage) keepForm(r *http.Request) error {
	body, err := r.GetBody()
	if err != nil {
		return err
	}
	defer body.Close()
	copied := r.Clone(r.Context())
	copied.Body = body
	if err := copied.ParseForm(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forms = append(w.forms, copied.PostForm)
	return nil
}

// requests is how many requests went to a path that ends so.
func (w *stage) requests(end string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.paths[end]
}

func (w *stage) authority() string { return w.idp.URL() + "/" + idp.DefaultTenant }

// client makes an MSAL client, as an application would but for instance discovery.
func (w *stage) client(accessor cache.ExportReplace, more ...confidential.Option) confidential.Client {
	w.t.Helper()
	return w.clientOf(idp.DefaultClientID, idp.DefaultClientSecret, accessor, more...)
}

// middleTier is a client of the API that stageAPI belongs to.
func (w *stage) middleTier(accessor cache.ExportReplace) confidential.Client {
	w.t.Helper()
	return w.clientOf(middleTierID, middleTierSecret, accessor)
}

func (w *stage) clientOf(id, secret string, accessor cache.ExportReplace, more ...confidential.Option) confidential.Client {
	w.t.Helper()
	cred, err := confidential.NewCredFromSecret(secret)
	if err != nil {
		w.t.Fatal(err)
	}
	options := []confidential.Option{confidential.WithHTTPClient(w.http), confidential.WithInstanceDiscovery(false)}
	if accessor != nil {
		options = append(options, confidential.WithCache(accessor))
	}
	c, err := confidential.New(w.authority(), id, cred, append(options, more...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// authorize signs a user in and returns a code and its PKCE verifier.
func (w *stage) authorize(user, nonce string, scopes ...string) (code, verifier string) {
	w.t.Helper()
	verifier = oauth2.GenerateVerifier()
	q := url.Values{
		"client_id": {idp.DefaultClientID}, "response_type": {"code"}, "redirect_uri": {stageCallback},
		"scope":          {strings.Join(append(scopes, "openid profile offline_access"), " ")},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"},
		"state": {"state"}, "nonce": {nonce}, "login_hint": {user},
	}
	resp, err := w.http.Get(w.authority() + "/oauth2/v2.0/authorize?" + q.Encode())
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	target, err := resp.Location()
	if err != nil || target.Query().Get("code") == "" {
		w.t.Fatalf("no code from the authorization endpoint: status %d, %v", resp.StatusCode, err)
	}
	return target.Query().Get("code"), verifier
}

// signIn signs a user in through a client.
func (w *stage) signIn(c confidential.Client, user string) confidential.AuthResult {
	w.t.Helper()
	code, verifier := w.authorize(user, "nonce", stageAPI)
	ar, err := c.AcquireTokenByAuthCode(w.t.Context(), code, stageCallback, []string{stageAPI}, confidential.WithChallenge(verifier))
	if err != nil {
		w.t.Fatal(err)
	}
	return ar
}

func (w *stage) silent(ctx context.Context, c confidential.Client, account string, scopes ...string) (confidential.AuthResult, error) {
	return c.AcquireTokenSilent(ctx, scopes, confidential.WithSilentAccount(confidential.Account{HomeAccountID: account}))
}

// samples is an ExportReplace as samples have it: a map.
type samples struct {
	mu    sync.Mutex
	blobs map[string][]byte
	keys  []string // of each call, behind "R " or "E "

	// noReset leaves the client as it is where nothing is stored.
	noReset bool
	// delay is how long the store takes to answer.
	delay time.Duration
	// replaceErr and exportErr, unless nil, are asked first.
	replaceErr, exportErr func() error
}

func newSamples() *samples { return &samples{blobs: map[string][]byte{}} }

func (s *samples) Replace(_ context.Context, c cache.Unmarshaler, hints cache.ReplaceHints) error {
	if s.delay > 0 {
		time.Sleep(s.delay)
	}
	s.mu.Lock()
	s.keys = append(s.keys, "R "+hints.PartitionKey)
	b, ok := s.blobs[hints.PartitionKey]
	fail := s.replaceErr
	s.mu.Unlock()
	if fail != nil {
		if err := fail(); err != nil {
			return err
		}
	}
	if !ok && s.noReset {
		return nil
	}
	return c.Unmarshal(b)
}

func (s *samples) Export(_ context.Context, c cache.Marshaler, hints cache.ExportHints) error {
	s.mu.Lock()
	fail := s.exportErr
	s.mu.Unlock()
	if fail != nil {
		if err := fail(); err != nil {
			return err
		}
	}
	b, err := c.Marshal()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, "E "+hints.PartitionKey)
	s.blobs[hints.PartitionKey] = b
	return err
}

func (s *samples) get(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.blobs[key])
}

func (s *samples) set(key, blob string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[key] = []byte(blob)
}

func (s *samples) calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.keys...)
}

var (
	blobExpiry  = regexp.MustCompile(`("(?:extended_)?expires_on":)"\d+"`)
	errStore    = errors.New("the store does not answer")
	assertionID = regexp.MustCompile(`^[A-Za-z0-9_-]{43}=$`)
	blobSecret  = regexp.MustCompile(`"secret":"([^"]*)"`)
)

// expired is the blob with access tokens that have ended.
func expired(blob string) string { return blobExpiry.ReplaceAllString(blob, `${1}"1"`) }

// blobRefreshToken is the text of the refresh token.
func blobRefreshToken(blob string) string {
	return blobSecret.FindStringSubmatch(blob[strings.Index(blob, `"RefreshToken":{`):])[1]
}

// unsigned is the JWT with other claims under its old signature.
func unsigned(jwt string, edit func(claims string) string) string {
	parts := strings.Split(jwt, ".")
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(edit(string(claims))))
	return strings.Join(parts, ".")
}

const idpScope = idp.DefaultAudience + "/Data.Write"

// fault changes the answer of the token endpoint once.
func (w *stage) fault(kind string) {
	w.t.Helper()
	if err := w.idp.Fault(idp.Fault{Endpoint: "token", Kind: kind}); err != nil {
		w.t.Fatal(err)
	}
}

// noRotation leaves refresh tokens in force, as Microsoft Entra ID does.
func noRotation() idp.Fault {
	return idp.Fault{Endpoint: "token", Kind: "no_refresh_token", Times: 1000}
}
