package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// TestNoTokenIsShown looks for the user's tokens and account in everything that
// the application says.
func TestNoTokenIsShown(t *testing.T) {
	t.Parallel()
	s := open(t, "-auto-login")
	v := s.signedIn(t, "ada")
	stop := make(chan struct{})
	events := make(chan string)
	go func() { events <- v.listen(t, stop) }()

	var secrets, said []string
	look := func() {
		secrets = append(secrets, s.secrets(t)...)
		for _, path := range []string{"/", "/tokens", "/api/cache", "/healthz", "/nothing", "/signin?return_to=x", "/callback?state=x"} {
			said = append(said, v.get(t, path).body)
		}
		said = append(said, v.post(t, "/call", nil).body)
	}
	look()
	v.expire(t)
	look()
	s.fault(t, idp.Fault{Endpoint: "token", Kind: "wrong_audience"})
	v.expire(t)
	look()
	s.idp().ClearFault("token")
	look()
	v.post(t, "/api/revoke", nil)
	v.expire(t)
	said = append(said, v.post(t, "/call", nil).body)
	close(stop)
	stream := <-events
	if !strings.Contains(stream, `"refreshed"`) {
		t.Errorf("the stream does not tell of the refresh: %s", stream)
	}
	logs := s.logs.String()
	if !strings.Contains(logs, "identity_server_unavailable") {
		t.Errorf("the log does not tell of the fault: %s", logs)
	}
	all := strings.Join(append(said, stream, logs), "\n")
	if len(secrets) < 10 {
		t.Fatalf("only %d tokens to look for", len(secrets))
	}
	for _, secret := range secrets {
		if strings.Contains(all, secret) {
			t.Errorf("%.12s… is shown", secret)
		}
	}
	if found := regexp.MustCompile(`eyJ[\w-]{10}`).FindString(all); found != "" {
		t.Errorf("%s looks like a token", found)
	}
}

// listen reads the user's event stream until stop is closed.
func (v *visitor) listen(t *testing.T, stop <-chan struct{}) string {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-stop
		cancel()
	}()
	resp, err := v.Do(v.request(t, http.MethodGet, "/events", nil).WithContext(ctx))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	var text strings.Builder
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
	}
	return text.String()
}

// secrets returns the tokens that are cached for the users of all sessions, and
// their accounts.
func (s *site) secrets(t *testing.T) []string {
	t.Helper()
	var found []string
	err := s.sessions.Iterate(t.Context(), func(ctx context.Context) error {
		ticket, err := tokencache.ParseTicket(s.sessions.GetString(ctx, sessionTicket))
		if err != nil {
			return nil // nobody's session
		}
		tokens, err := s.nodes[0].cache.Partition(ticket.Key()).Tokens(ctx)
		if err != nil {
			return err
		}
		text, err := json.Marshal(tokens)
		if err != nil {
			return err
		}
		for _, match := range regexp.MustCompile(`"secret":\s*"([^"]+)"`).FindAllStringSubmatch(string(text), -1) {
			found = append(found, match[1])
		}
		found = append(found, ticket.Account(), ticket.Encode())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
