package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// The caches of testdata have the form of MSAL for .NET, Java, Python and Go, and of what
// is left where several libraries have worked with one. They hold more than is taken over:
// what golden is, which is what is exported then.
func TestWrittenCaches(t *testing.T) {
	t.Parallel()
	const home = ".11111111-2222-3333-4444-555555555555"
	for name, account := range map[string]string{
		"dotnet": "00000000-0000-0000-0000-0000000000D1" + home,
		"java":   "00000000-0000-0000-0000-0000000000a2" + home,
		"python": "00000000-0000-0000-0000-0000000000b3" + home,
		"go":     "00000000-0000-0000-0000-0000000000c4" + home,
		"shared": "00000000-0000-0000-0000-0000000000d5" + home,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // times are those of the golden file
				w := &written{name: name, cache: newCache(t, "https://login.microsoftonline.com/common/v2.0")}
				all := tokens(t, readFile(t, name+".json"))
				ticket := takeOver(t, w.cache, all)
				if ticket.Account() != account {
					t.Error("another account was signed in")
				}
				w.partition = w.cache.Partition(ticket.Key())
				w.wantGolden(t)
				w.wantTokens(t)
				w.wantRefreshed(t)
			})
		})
	}
}

// written is a cache that was written down, and taken over.
type written struct {
	name      string
	cache     *tokencache.Cache
	partition *tokencache.Partition
}

var golden = flag.Bool("golden", false, "write the golden files anew")

// wantGolden compares what is exported.
func (w *written) wantGolden(t *testing.T) {
	t.Helper()
	file := w.name + ".golden.json"
	all, err := w.partition.Tokens(t.Context())
	check(t, err)
	b, err := json.Marshal(all) // no spaces, where an unknown member has come with some
	check(t, err)
	if *golden {
		var text bytes.Buffer
		check(t, json.Indent(&text, b, "", "  "))
		check(t, os.WriteFile(filepath.Join("testdata", file), append(text.Bytes(), '\n'), 0o600))
	}
	var want bytes.Buffer
	check(t, json.Compact(&want, readFile(t, file)))
	if !bytes.Equal(b, want.Bytes()) { // the order of members too
		t.Errorf("what is exported differs from %s in (-want +got):\n%s", file, cmp.Diff(shown(t, want.Bytes()), shown(t, b)))
	}
	check(t, new(tokencache.Tokens).UnmarshalJSON(b))
}

// wantTokens asks for what is there, and for what must not have been taken over.
func (w *written) wantTokens(t *testing.T) {
	t.Helper()
	tok, err := w.partition.Token(t.Context(), tokencache.Request{Scopes: []string{readScope}}, nil)
	check(t, err)
	if want := tokencache.Secret("marker-" + w.name + "-access"); tok.AccessToken != want || tok.Expires.Unix() != 4070908800 {
		t.Errorf("another token, which ends %v", tok.Expires)
	}
	for _, scope := range []string{"api://bound/Read", "api://behalf/Read", "api://other/Read"} {
		if _, err := w.partition.Token(t.Context(), tokencache.Request{Scopes: []string{scope}}, nil); !errors.Is(err, tokencache.ErrNoTokens) {
			t.Errorf("%s: %v", scope, err)
		}
	}
}

// wantRefreshed spends the refresh token, and then the one that replaced it.
func (w *written) wantRefreshed(t *testing.T) {
	t.Helper()
	s := &server{}
	for range 2 {
		check(t, w.partition.Expire(t.Context()))
		time.Sleep(time.Second)
		_, err := w.partition.Token(t.Context(), tokencache.Request{Scopes: []string{readScope}}, s)
		check(t, err)
	}
	if want := []tokencache.Secret{tokencache.Secret("marker-" + w.name + "-refresh"), "marker-next"}; !cmp.Equal(s.spent, want) {
		t.Errorf("%d refresh tokens were spent, or others than those wanted", len(s.spent))
	}
	all, err := w.partition.Tokens(t.Context())
	check(t, err)
	if n := count(all, "refresh"); n != 1 {
		t.Errorf("there are %d refresh tokens", n)
	}
}

// server notes what it gets.
type server struct{ spent []tokencache.Secret }

func (s *server) Refresh(_ context.Context, token tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
	s.spent = append(s.spent, token)
	return tokencache.Grant{
		AccessToken: "marker-new", RefreshToken: "marker-next", Scopes: req.Scopes, Expires: time.Now().Add(time.Hour),
	}, nil
}

func (*server) Revoke(context.Context, tokencache.Secret) error { return nil }

// The formats of before the unified schema are not read: nobody is signed in by halves.
func TestOldFormats(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"MSAL v2": `[{"Key":"access_tokens","Value":[]},{"Key":"refresh_tokens","Value":["{\"secret\":\"marker-old\"}"]}]`,
		"ADAL v3": "\x03\x00\x00\x00\x00\x00\x00\x00",
	} {
		if err := new(tokencache.Tokens).UnmarshalJSON([]byte(text)); !errors.Is(err, tokencache.ErrUnreadable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// shown is a cache without its secrets.
func shown(t *testing.T, b []byte) map[string]map[string]map[string]any {
	t.Helper()
	var all map[string]map[string]map[string]any
	check(t, json.Unmarshal(b, &all))
	for _, section := range all {
		for _, entry := range section {
			if secret, ok := entry["secret"].(string); ok {
				entry["secret"] = digest(tokencache.Secret(secret))[:8]
			}
		}
	}
	return all
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	check(t, err)
	return b
}
