package idp_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/coatcheck-go/coatcheck/internal/idp"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	callback = "http://127.0.0.1:45678/callback"
	apiScope = "api://coatcheck-example/Data.Read"
	verifier = "0123456789-0123456789-0123456789-0123456789"
)

func listen(t *testing.T, o *idp.Options) *idp.Server {
	t.Helper()
	s, err := idp.Listen("127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error("Close:", err)
		}
	})
	return s
}

// browser follows no redirects: what the server redirects to is what is tested.
func browser(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("body %.80q is not JSON: %v", a.body, err)
	}
	return v
}

// errorCode is the error member of a JSON answer, or "" if it is a success.
func (a answer) errorCode(t *testing.T) string {
	t.Helper()
	code, _ := a.json(t)["error"].(string)
	return code
}

func do(t *testing.T, req *http.Request) answer {
	t.Helper()
	resp, err := browser(t).Do(req)
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

func get(t *testing.T, u string, header ...string) answer {
	t.Helper()
	return do(t, request(t, http.MethodGet, u, "", header...))
}

func post(t *testing.T, u string, form url.Values, header ...string) answer {
	t.Helper()
	header = append([]string{"Content-Type", "application/x-www-form-urlencoded"}, header...)
	return do(t, request(t, http.MethodPost, u, form.Encode(), header...))
}

func request(t *testing.T, method, u, body string, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, u, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// endpoints are those of one of the two issuers.
type endpoints struct{ issuer, base string }

func plain(s *idp.Server) endpoints { return endpoints{s.URL(), s.URL()} }

func entra(s *idp.Server) endpoints {
	return endpoints{s.TenantURL(), strings.TrimSuffix(s.TenantURL(), "/v2.0") + "/oauth2/v2.0"}
}

func (e endpoints) token() string { return e.base + "/token" }

// authorizeQuery is a valid authorization request, to be changed by a test.
func authorizeQuery(scope ...string) url.Values {
	if scope == nil {
		scope = []string{"openid", "profile", "offline_access", apiScope}
	}
	return url.Values{
		"client_id": {idp.DefaultClientID}, "redirect_uri": {callback}, "response_type": {"code"},
		"scope": {strings.Join(scope, " ")}, "state": {"the-state"}, "nonce": {"the-nonce"},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"},
	}
}

// authorize submits the login form and returns the answer's parameters.
func authorize(t *testing.T, e endpoints, user string, q url.Values) url.Values {
	t.Helper()
	a := post(t, e.base+"/authorize?"+q.Encode(), url.Values{"username": {user}})
	return redirected(t, a, q.Get("redirect_uri"))
}

// redirected checks that a is a redirect to uri and returns its parameters.
func redirected(t *testing.T, a answer, uri string) url.Values {
	t.Helper()
	location := a.header.Get("Location")
	target, params, _ := strings.Cut(location, "?")
	if a.status != http.StatusSeeOther || target != uri {
		t.Fatalf("got status %d to %q, want 303 to %q", a.status, location, uri)
	}
	q, err := url.ParseQuery(params)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func getCode(t *testing.T, e endpoints, user string, q url.Values) string {
	t.Helper()
	code := authorize(t, e, user, q).Get("code")
	if code == "" {
		t.Fatal("no code")
	}
	return code
}

// withClient adds the default client's credentials to a form.
func withClient(form url.Values) url.Values {
	form.Set("client_id", idp.DefaultClientID)
	form.Set("client_secret", idp.DefaultClientSecret)
	return form
}

func codeForm(code string) url.Values {
	return withClient(url.Values{
		"grant_type": {"authorization_code"}, "code": {code},
		"redirect_uri": {callback}, "code_verifier": {verifier},
	})
}

func refreshForm(token string) url.Values {
	return withClient(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

// tokens is a successful token response.
type tokens struct {
	TokenType    string `json:"token_type"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
	Scope        string `json:"scope"`
	ExpiresIn    int64  `json:"expires_in"`
	ExtExpiresIn int64  `json:"ext_expires_in"`
	ClientInfo   string `json:"client_info"`
}

func mustTokens(t *testing.T, a answer) tokens {
	t.Helper()
	var v tokens
	if a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// signIn runs the whole flow.
func signIn(t *testing.T, e endpoints, user string, scope ...string) tokens {
	t.Helper()
	return mustTokens(t, post(t, e.token(), codeForm(getCode(t, e, user, authorizeQuery(scope...)))))
}

// wantError checks an OAuth error answer.
func wantError(t *testing.T, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.errorCode(t) != code {
		t.Errorf("got %d %s, want %d %s", a.status, a.body, status, code)
	}
}

// payload decodes a JWT without verifying it.
func payload(t *testing.T, jwt string) map[string]any {
	t.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %d parts", len(parts))
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func callAPI(t *testing.T, s *idp.Server, token string) answer {
	t.Helper()
	return get(t, s.URL()+"/api/me", "Authorization", "Bearer "+token)
}
