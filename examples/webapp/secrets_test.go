package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

// TestNoTokenIsShown looks for the users' tokens and accounts, and the client's
// secret, in everything that the application says: to a user, in the stream and
// in the log with all that it can tell. It goes through what goes wrong as well.
func TestNoTokenIsShown(t *testing.T) {
	t.Parallel()
	eachProvider(t, noTokenIsShown)
	t.Run(withMSAL, func(t *testing.T) {
		t.Parallel()
		noTokenIsShown(t, "-client=msal")
	})
}

func noTokenIsShown(t *testing.T, args ...string) {
	s := open(t, append(args, "-auto-login", "-nodes=2", "-log-level=debug")...)
	v, bob := s.signedIn(t, "ada"), s.signedIn(t, "bob")
	stop := make(chan struct{})
	events, others := make(chan string), make(chan string)
	listening := make(chan struct{}, 2)
	go func() { events <- v.listen(t, listening, stop) }()
	go func() { others <- bob.at(s.nodes[1]).listen(t, listening, stop) }()
	<-listening
	<-listening

	secrets, said := []string{clientSecret}, []string{}
	look := func() {
		secrets = append(secrets, s.secrets(t)...)
		for _, path := range []string{"/", "/tokens", "/api/cache", "/healthz", "/nothing", "/signin?return_to=x", "/callback?state=x"} {
			said = append(said, v.get(t, path).body, v.at(s.nodes[1]).get(t, path).body)
		}
		said = append(said, v.post(t, "/call", nil).body, bob.at(s.nodes[1]).post(t, "/call", nil).body)
	}
	look()
	v.expire(t)
	until(t, func() bool { return strings.Contains(s.logs.String(), "tokencache: invalidation") })
	look()
	for _, kind := range []string{"wrong_audience", "foreign_subject", "garbage"} {
		s.fault(t, idp.Fault{Endpoint: "token", Kind: kind})
		v.expire(t)
		look()
		s.idp().ClearFault("token")
		v.get(t, "/signin?login_hint=ada")
		look()
	}
	v.post(t, "/api/revoke", nil)
	v.expire(t)
	said = append(said, v.post(t, "/call", nil).body)
	v.get(t, "/signin?login_hint=ada")
	look()
	s.fault(t, idp.Fault{Endpoint: "revoke", Status: http.StatusServiceUnavailable})
	said = append(said, v.post(t, "/signout", url.Values{"everywhere": {"1"}}).body)
	bobs := s.nodes[0].cache.Partition(s.ticketOf(t).Key()) // ada is signed out
	s.loseStore(t)
	for range 6 {
		said = append(said, bob.post(t, "/expire", nil).body)
		if err := bobs.Expire(t.Context()); err == nil {
			t.Error("the store is not gone")
		}
	}
	close(stop)
	stream, logs := <-events+<-others, s.logs.String()
	for _, kind := range []string{"refresh", "lease", "invalidation", "sign-in", "sign-out", "hit"} {
		if !strings.Contains(stream, `"kind":"`+kind+`"`) || !strings.Contains(logs, "tokencache: "+kind) {
			t.Errorf("the stream or the log does not tell of a %s", kind)
		}
	}
	if !strings.Contains(logs, "identity_server_unavailable") || !strings.Contains(logs, "tokencache: outage") {
		t.Errorf("the log does not tell of the faults: %s", logs)
	}
	all := strings.Join(append(said, stream, logs), "\n")
	if len(secrets) < 20 {
		t.Fatalf("only %d secrets to look for", len(secrets))
	}
	for _, secret := range secrets {
		if strings.Contains(all, secret) || strings.Contains(all, url.QueryEscape(secret)) {
			t.Errorf("%.12s… is shown", secret)
		}
	}
	if found := regexp.MustCompile(`eyJ[\w-]{10}`).FindString(all); found != "" {
		t.Errorf("%s looks like a token", found)
	}
	for _, name := range []string{"ada", "bob", "contoso.test"} { // for pages only
		if regexp.MustCompile(`(?i)\b` + name + `\b`).MatchString(stream + logs) {
			t.Errorf("the stream or the log names %s", name)
		}
	}
}

// listen reads the user's event stream until stop is closed, and says when it has
// begun. A stream that ends before is opened again, as pages do.
func (v *visitor) listen(t *testing.T, listening chan<- struct{}, stop <-chan struct{}) string {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-stop
		cancel()
	}()
	var text strings.Builder
	for first := true; ctx.Err() == nil; first = false {
		resp, err := v.Do(v.request(t, http.MethodGet, "/events", nil).WithContext(ctx))
		if first {
			listening <- struct{}{}
		}
		if err != nil {
			break // stopped, or there is nobody any more
		}
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			text.WriteString(lines.Text() + "\n")
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			break // signed out
		}
	}
	return text.String()
}

// secrets returns the tokens that are cached for the users of all sessions, and
// their accounts.
func (s *site) secrets(t *testing.T) []string {
	t.Helper()
	var found []string
	err := s.nodes[0].sessions.Iterate(t.Context(), func(ctx context.Context) error {
		ticket, err := tokencache.ParseTicket(s.nodes[0].web.Ticket(ctx))
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
