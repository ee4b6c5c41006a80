package fleet

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// Two processes acquire a scope each for one user at the same moment, over and
// over. All of the tokens are there afterwards, each was asked for once, and the
// backend has seen neither the user, nor a scope, nor a token.
func TestTwoScopesAtOnce(t *testing.T) {
	everyBackend(t, true, func(t *testing.T, s service) {
		w := newWorld(t, s)
		fleet := w.fleet(2, nil)
		words := append([]string{
			"api://", "scope", "Data.Read", tokenStart, w.idp.URL(), strings.TrimPrefix(w.idp.URL(), "http://"),
		}, encodings("twoscopes")...)
		u := w.signIn(t, "twoscopes", 1)[0]
		words = append(words, encodings(u.key.Account())...)
		seen := s.spy(t, words)
		u = w.signIn(t, "twoscopes", 1)[0] // this time, it is looked at
		before := w.idp.Stats()
		rounds := rounds(s, 40, 400)
		var scopes []string
		for round := range rounds {
			pair := []string{fmt.Sprintf("api://a/Scope%d", round), fmt.Sprintf("api://b/Scope%d", round)}
			at := ticks() + int64(5*time.Millisecond)
			together(2, func(i int) {
				r := fleet[i].ask(t, askArgs{Tickets: []string{u.ticket}, Scopes: pair[i : i+1], At: at})
				if err := r.every(1); err != nil {
					t.Error(err)
				}
			})
			scopes = append(scopes, pair...)
		}
		if refreshes, reused, _ := w.figures(before); refreshes != int64(2*rounds) || reused != 0 {
			t.Errorf("%d refreshes, %d of them with a used token; want %d, 0", refreshes, reused, 2*rounds)
		}
		check(t, w.cached(t, u, scopes))
		for _, p := range fleet {
			for _, scope := range scopes {
				eventually(t, func() error { return p.has(u, scope) }) // once it has heard of it
			}
		}
		sent, found := seen()
		if len(found) > 0 {
			t.Errorf("%d words were sent to the backend in the clear", len(found))
		}
		secrets := w.secrets(t, u)
		if len(secrets) < len(scopes)+2 { // with the refresh token and the ID token
			t.Errorf("the record has %d tokens, with %d scopes", len(secrets), len(scopes))
		}
		wantNone(t, s.dump(t), append(words, secrets...))
		t.Logf("%d times: both tokens are there; the backend was sent %d bytes", rounds, sent)
	})
}

// tokenStart is how every token of the authorization server begins: {"alg":
const tokenStart = "eyJhbGciOi"

// has tells if the process has no token for the scope without asking for one.
func (p *process) has(u user, scope string) error {
	var got string
	if err := p.call("peek", peekArgs{u.ticket, []string{scope}}, &got); err != nil {
		return err
	}
	if got != "l1" && got != "provider" {
		return fmt.Errorf("%s: %s: %s", p.name, scope, got)
	}
	return nil
}

// cached tells if the store does not have a token for each scope.
func (w *world) cached(t *testing.T, u user, scopes []string) error {
	t.Helper()
	var missing []error
	for _, scope := range scopes {
		_, err := w.cache.Partition(u.key).Token(t.Context(), tokencache.Request{Scopes: []string{scope}}, nil)
		if err != nil {
			missing = append(missing, fmt.Errorf("%s: %w", scope, err))
		}
	}
	return errors.Join(missing...)
}

// encodings are the forms in which a text may hide in what is stored: as it is, in
// hexadecimal, and in base64 at each of the three offsets.
func encodings(text string) []string {
	all := []string{text, hex.EncodeToString([]byte(text))}
	for offset := range 3 {
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			coded := e.EncodeToString(append(make([]byte, offset), text...))
			first := (offset*8 + 5) / 6 // the first character that is the text's alone
			last := (offset + len(text)) * 8 / 6
			if word := coded[first:last]; len(word) > 5 {
				all = append(all, word)
			}
		}
	}
	return all
}

// wantNone wants none of the words in what is stored.
func wantNone(t *testing.T, stored []byte, words []string) {
	t.Helper()
	if len(stored) == 0 {
		t.Error("nothing is stored: there is nothing to look through")
	}
	for i, word := range words {
		if strings.Contains(string(stored), word) {
			t.Errorf("word %d is stored in the clear", i)
		}
	}
}
