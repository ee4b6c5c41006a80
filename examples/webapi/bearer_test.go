package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// forgeries are tokens that look like a real one.
func forgeries(t *testing.T, genuine string) map[string]string {
	t.Helper()
	parts := strings.Split(genuine, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var header map[string]string
	text, _ := base64.RawURLEncoding.DecodeString(parts[0])
	if err := json.Unmarshal(text, &header); err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(alg jose.SignatureAlgorithm, key any) string {
		o := (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", header["kid"])
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		compact, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return compact
	}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"at+jwt"}`))
	other := strings.Replace(string(payload), `"name":"ada"`, `"name":"eve"`, 1)
	if other == string(payload) {
		t.Fatal("the token has no name in it")
	}
	return map[string]string{
		"nonsense":           "nonsense",
		"another key":        sign(jose.RS256, key),
		"a shared secret":    sign(jose.HS256, []byte(strings.Repeat("k", 32))),
		"alg none":           none + "." + parts[1] + ".",
		"alg none, signed":   none + "." + parts[1] + "." + parts[2],
		"another name":       parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(other)) + "." + parts[2],
		"no signature":       parts[0] + "." + parts[1] + ".",
		"cut short":          genuine[:len(genuine)-4],
		"oversized":          strings.Repeat("a", 17<<10),
		"oversized, genuine": genuine + strings.Repeat("A", 17<<10),
	}
}

// TestRefusedBearers: whatever else comes than one good token is answered with a
// challenge, and neither the server is asked about it nor anything is stored.
func TestRefusedBearers(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login") // any scope may be had
	v := s.signedIn(t, "ada")
	genuine := s.token(t, ordersScope)
	type attempt struct {
		headers []string
		status  int
		code    string
	}
	attempts := map[string]attempt{
		"missing":         {nil, 401, ""},
		"another scheme":  {[]string{"Basic YTpi"}, 401, ""},
		"no token":        {[]string{"Bearer"}, 400, "invalid_request"},
		"with a space":    {[]string{"Bearer a b"}, 400, "invalid_request"},
		"doubled":         {[]string{"Bearer " + genuine, "Bearer " + genuine}, 400, "invalid_request"},
		"doubled, forged": {[]string{"Bearer " + genuine, "Bearer nonsense"}, 400, "invalid_request"},
		"two in one":      {[]string{"Bearer " + genuine + ", Bearer " + genuine}, 400, "invalid_request"},
		"another scope":   {[]string{"Bearer " + s.token(t, ordersAudience+"/Orders.Write")}, 403, "insufficient_scope"},
		"another API's":   {[]string{"Bearer " + s.token(t, pricesScope)}, 401, "invalid_token"},
		"an ID token":     {[]string{"Bearer " + s.idToken(t)}, 401, "invalid_token"},
	}
	for name, token := range forgeries(t, genuine) {
		attempts[name] = attempt{[]string{"Bearer " + token}, 401, "invalid_token"}
	}
	_, ever := s.stored[s.orders.program].left(t)
	for name, a := range attempts {
		for _, path := range [][2]string{{"GET", "/orders"}, {"POST", "/signout"}} {
			got := v.bearer(t, s.orders.program, path[0], path[1], a.headers...)
			challenge := got.header.Get("WWW-Authenticate")
			if got.status != a.status || !strings.HasPrefix(challenge, `Bearer realm="orders"`) ||
				a.code != "" && !strings.Contains(challenge, `error="`+a.code+`"`) {
				t.Errorf("%s, %s: got status %d and %q", name, path[1], got.status, challenge)
			}
			if got.header.Get("Cache-Control") != "no-store" || strings.Contains(got.body, "ada") {
				t.Errorf("%s: the answer may be stored, or tells of the user", name)
			}
		}
	}
	v.bearer(t, s.orders.program, "GET", "/orders", "Bearer "+strings.Repeat("a", 100<<10)).want(t, http.StatusRequestHeaderFieldsTooLarge, "")
	if _, now := s.stored[s.orders.program].left(t); now != ever || s.asked() != 0 {
		t.Errorf("%d records were made, and the server was asked %d times", now-ever, s.asked())
	}
	v.bearer(t, s.orders.program, "GET", "/orders", "Bearer "+genuine).want(t, http.StatusOK, "")
}

// idToken is that of the one user who is signed in.
func (s *site) idToken(t *testing.T) (found string) {
	t.Helper()
	err := s.web.sessions.Iterate(t.Context(), func(ctx context.Context) error {
		ticket, err := tokencache.ParseTicket(s.web.handlers.Ticket(ctx))
		if err != nil {
			return nil // nobody's session
		}
		tokens, err := s.web.cache.Partition(ticket.Key()).Tokens(ctx)
		if err != nil {
			return err
		}
		var stored struct {
			IDToken map[string]struct{ Secret string }
		}
		text, err := json.Marshal(tokens)
		if err != nil {
			return err
		}
		err = json.Unmarshal(text, &stored)
		for _, token := range stored.IDToken {
			found = token.Secret
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatal("there is no ID token:", err)
	}
	return found
}

// TestAudience: each API takes its own tokens and no others, so that a token which
// one has been given is of no use to anybody at the other.
func TestAudience(t *testing.T) {
	t.Parallel()
	s := open(t)
	v := s.signedIn(t, "ada")
	got := v.bearer(t, s.prices.program, "GET", "/prices", "Bearer "+s.token(t, ordersScope))
	got.want(t, http.StatusUnauthorized, "")
	if c := got.header.Get("WWW-Authenticate"); c != `Bearer realm="prices", error="invalid_token"` {
		t.Errorf("the challenge is %q", c)
	}
	if _, ever := s.stored[s.prices.program].left(t); ever != 0 {
		t.Error("it left a record")
	}
}

// TestExpiredBearer waits until a token has ended.
func TestExpiredBearer(t *testing.T) {
	t.Parallel()
	s := open(t, "-token-lifetime=1s")
	v := s.signedIn(t, "ada")
	token := "Bearer " + s.token(t, ordersScope)
	time.Sleep(2100 * time.Millisecond) // times are whole seconds in a JWT, and it ends a little later than it says
	got := v.bearer(t, s.orders.program, "GET", "/orders", token)
	got.want(t, http.StatusUnauthorized, "")
	if _, ever := s.stored[s.orders.program].left(t); ever != 0 || s.asked() != 0 {
		t.Errorf("it left %d records, and the server was asked %d times", ever, s.asked())
	}
	checkHops(t, v.chain(t).Hops, "ada") // the web app gets another
}
