package tokencache_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

func TestNewWithoutProvider(t *testing.T) {
	t.Parallel()
	hook := func(context.Context, *tokencache.Access) error { return nil }
	for name, o := range map[string]*tokencache.Options{
		"no options":      nil,
		"no hooks":        {},
		"no AfterAccess":  {BeforeAccess: hook, BeforeWrite: hook},
		"no BeforeAccess": {BeforeWrite: hook, AfterAccess: hook},
		"keys":            {BeforeAccess: hook, AfterAccess: hook, Keys: newKeys(t)},
	} {
		_, err := tokencache.New(nil, namespace, o)
		if want := "BeforeAccess and AfterAccess"; name != "keys" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want an error that names %s", name, err, want)
		}
		if name == "keys" && (err == nil || !strings.Contains(err.Error(), "leave Keys empty")) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	newCache(t, nil, &tokencache.Options{BeforeAccess: hook, AfterAccess: hook})
}

// What an application finds in its file may be anything.
func TestHooksPersistUnreadable(t *testing.T) {
	t.Parallel()
	secret := "s3cret-of-the-file"
	for name, doc := range map[string]string{
		"text":             secret,
		"list":             `["` + secret + `"]`,
		"number":           `5`,
		"half":             `{"AccessToken":{"k":{"secret":"` + secret,
		"section":          `{"RefreshToken":["` + secret + `"]}`,
		"item":             `{"RefreshToken":{"k":"` + secret + `"}}`,
		"duplicate":        `{"RefreshToken":{},"RefreshToken":{"k":{"secret":"` + secret + `"}}}`,
		"duplicate member": `{"coatcheck":{},"coatcheck":{},"RefreshToken":{"k":{"secret":"` + secret + `"}}}`,
		"not UTF-8":        "{\"x\":\"" + secret + "\xff\"}",
		"deep":             strings.Repeat(`{"RefreshToken":`, 20_000),
		"huge":             `{"x":"` + strings.Repeat("x", tokencache.MaxTokensSize) + `"}`,
		"a space too long": strings.Repeat(" ", tokencache.MaxTokensSize+1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, a := newShelf(), newAuthority()
			options := s.options()
			var events log
			options.Events = events.add
			cache := newCache(t, nil, options)
			ticket := mustSignIn(t, cache, a, "read")
			s.put(doc)
			events.take()
			for op, err := range map[string]error{
				"Check":  cache.Partition(ticket.Key()).Check(t.Context()),
				"Expire": cache.Partition(ticket.Key()).Expire(t.Context()),
				"Token": func() error {
					_, err := cache.Partition(ticket.Key()).Token(t.Context(), request("read"), a)
					return err
				}(),
			} {
				if !errors.Is(err, tokencache.ErrUnreadable) || errors.Is(err, tokencache.ErrUnavailable) {
					t.Errorf("%s: got %v, want ErrUnreadable", op, err)
				}
				if err != nil && strings.Contains(err.Error(), secret) {
					t.Errorf("%s: the error repeats what is stored", op)
				}
			}
			if told := events.take(); !slices.ContainsFunc(told, func(e string) bool { return strings.HasPrefix(e, "unreadable") }) {
				t.Errorf("no event tells of it: %q", told)
			}
			if s.only(t) != doc {
				t.Error("it was replaced by something that is no sign-in")
			}
			for _, c := range []*tokencache.Cache{cache, newHookCache(t, s)} {
				s.put(doc)
				ticket, err := c.SignIn(t.Context(), a.signIn("read"))
				if err != nil {
					t.Fatalf("a sign-in does not replace it: %v", err)
				}
				mustToken(t, c.Partition(ticket.Key()), nil, "read")
			}
			s.put(doc)
			if err := cache.Partition(tokencache.AccountKey(account)).SignOut(t.Context(), a); err != nil || s.only(t) != "" {
				t.Errorf("SignOut: %v, and %d bytes are stored", err, len(s.only(t)))
			}
		})
	}
}

// What decodes but says nothing is an empty partition or no generation, never a
// panic.
func TestHooksPersistOddities(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{"", " \n", "null", "{}", `{"RefreshToken":{}}`, `{"RefreshToken":null,"x":[1]}`} {
		s, a := newShelf(), newAuthority()
		cache := newHookCache(t, s)
		ticket := mustSignIn(t, cache, a, "read")
		s.put(doc)
		wantError(t, cache.Partition(ticket.Key()).Check(t.Context()), tokencache.ErrNoTokens)
		mustSignIn(t, cache, a, "read")
	}
	for _, member := range []string{
		`5`, `null`, `[]`, `"x"`, `{"generation":5}`, `{"generation":"ff"}`, `{"generation":"` + strings.Repeat("g", 32) + `"}`,
		`{"generation":"` + strings.Repeat("0", 32) + `","end":-5}`, `{"generation":"` + strings.Repeat("0", 32) + `","end":99999999999999}`,
		`{"generation":"` + strings.Repeat("0", 32) + `","end":1e99}`,
	} {
		s, a := newShelf(), newAuthority()
		cache := newHookCache(t, s)
		ticket := mustSignIn(t, cache, a, "read")
		doc := s.only(t)
		at := strings.Index(doc, `"coatcheck":`)
		s.put(doc[:at] + `"coatcheck":` + member + doc[at+strings.Index(doc[at:], "}")+1:])
		_, err := cache.Partition(ticket.Key()).Token(t.Context(), request("read"), a)
		wantError(t, err, tokencache.ErrNoTokens) // the session's generation is not there
		mustToken(t, cache.Partition(tokencache.AccountKey(account)), a, "write")
		again := mustSignIn(t, cache, a, "read")
		mustToken(t, cache.Partition(again.Key()), nil, "read")
		if strings.Contains(s.only(t), `"ff000000`) {
			t.Error("half a generation was taken for one")
		}
	}
}

// The absolute end of a partition is in the document.
func TestHooksPersistEnd(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	cache := newHookCache(t, s)
	ticket := mustSignIn(t, cache, a, "read")
	doc := s.only(t)
	at := strings.Index(doc, `"end":`)
	if at < 0 {
		t.Fatal("the end is not written")
	}
	s.put(doc[:at] + `"end":1000000000` + doc[at+strings.Index(doc[at:], "}"):])
	wantError(t, cache.Partition(ticket.Key()).Check(t.Context()), tokencache.ErrNoTokens)
}

// A document that another library has written is read, refreshed, and written
// back with all that it says.
func TestHooksPersistSamples(t *testing.T) {
	t.Parallel()
	const tenant = "11111111-2222-3333-4444-555555555555"
	for file, sample := range map[string]struct{ issuer, account string }{
		"sample-msal-go-cache.json":   {"https://login.microsoftonline.com/" + tenant, "00000000-0000-0000-0000-000000000000." + tenant},
		"sample-msal-node-cache.json": {"https://localhost:18445/" + tenant, "00000000-0000-0000-0000-000000000002." + tenant},
	} {
		text, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		before := decoded(t, string(text))
		before["FutureSection"] = map[string]any{"k": []any{1.5, "x"}}
		refreshToken := ""
		for _, section := range []string{"RefreshToken", "Account", "IdToken"} {
			for _, it := range before[section].(map[string]any) {
				it.(map[string]any)["future_field"] = section
				if section == "RefreshToken" {
					refreshToken = it.(map[string]any)["secret"].(string)
				}
			}
		}
		doc, err := json.Marshal(before)
		if err != nil {
			t.Fatal(err)
		}
		s := newShelf()
		s.set(func(_ context.Context, a *tokencache.Access, _ tokencache.Hook) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if _, ok := s.docs[a.SuggestedKey]; !ok {
				s.docs[a.SuggestedKey] = string(doc)
			}
			return a.Tokens.Deserialize(strings.NewReader(s.docs[a.SuggestedKey]))
		}, nil)
		cache, err := tokencache.New(nil, tokencache.Namespace{Issuer: sample.issuer, ClientID: "aaaaaaaa-0000-0000-0000-000000000001"}, s.options())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cache.Close(context.Background()) })
		p := cache.Partition(tokencache.AccountKey(sample.account))
		if err := p.Check(t.Context()); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		a := newAuthority()
		server := serverFunc(func(_ context.Context, rt tokencache.Secret, req tokencache.Request) (tokencache.Grant, error) {
			if string(rt) != refreshToken {
				t.Errorf("%s: another refresh token was spent", file)
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.issue("family", req.Scopes), nil
		})
		tok := mustToken(t, p, server, "more")
		if got := mustToken(t, p, nil, "more"); got.AccessToken != tok.AccessToken {
			t.Errorf("%s: the new token is not stored", file)
		}
		after := decoded(t, s.only(t))
		if diff := cmp.Diff(before["FutureSection"], after["FutureSection"]); diff != "" {
			t.Errorf("%s: an unknown section changed: %s", file, diff)
		}
		for _, section := range []string{"RefreshToken", "Account", "IdToken"} {
			items := after[section].(map[string]any)
			for _, it := range items {
				if it.(map[string]any)["future_field"] != section {
					t.Errorf("%s: %s has lost an unknown field", file, section)
				}
			}
			if len(items) != len(before[section].(map[string]any)) {
				t.Errorf("%s: %s has %d items", file, section, len(items))
			}
		}
		if strings.Contains(s.only(t), refreshToken) {
			t.Errorf("%s: the refresh token that was spent is stored", file)
		}
	}
}

func decoded(t *testing.T, doc string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(doc), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// Each user has a key, and only what is under it.
func TestHooksPersistUsersApart(t *testing.T) {
	t.Parallel()
	s, a := newShelf(), newAuthority()
	cache := newHookCache(t, s)
	const users = 20
	together(users, func(i int) {
		who := fmt.Sprintf("user%02d", i)
		ticket, err := cache.SignIn(t.Context(), a.signInAs(who, "read"))
		if err != nil {
			t.Error(err)
			return
		}
		p := cache.Partition(ticket.Key())
		mustExpire(t, p)
		for range 3 {
			if tok := mustToken(t, p, a, "read"); !strings.Contains(string(tok.AccessToken), "-"+who+"-") {
				t.Errorf("%s got the token of another", who)
			}
		}
	})
	keys := map[string]string{} // account by key
	for _, access := range append(s.told("before"), s.told("after")...) {
		if known, ok := keys[access.SuggestedKey]; ok && known != access.Account {
			t.Error("two accounts have one suggested key")
		}
		keys[access.SuggestedKey] = access.Account
	}
	if len(keys) != users || len(s.all()) != users {
		t.Errorf("%d users have %d keys and %d documents", users, len(keys), len(s.all()))
	}
	for key, who := range keys {
		if doc := s.docs[key]; strings.Count(doc, "access-") != strings.Count(doc, "-"+who+"-") {
			t.Errorf("the document of %s has tokens of others", who)
		}
	}
}

// The example's hooks keep users apart, and nothing readable.
func TestExampleFiles(t *testing.T) {
	t.Parallel()
	ring, err := tokencache.NewKeyRing(random32())
	if err != nil {
		t.Fatal(err)
	}
	f := files{dir: t.TempDir(), keys: ring}
	a := newAuthority()
	cache := newCache(t, nil, &tokencache.Options{BeforeAccess: f.read, AfterAccess: f.write})
	one, two := mustSignIn(t, cache, a, "read"), ""
	if _, err := cache.SignIn(t.Context(), a.signInAs("other", "read")); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadDir(f.dir)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d files, %v, want one for each user", len(list), err)
	}
	sealed := map[string][]byte{}
	for _, file := range list {
		info, _ := file.Info()
		b, err := os.ReadFile(filepath.Join(f.dir, file.Name()))
		if err != nil || info.Mode().Perm() != 0o600 || bytes.Contains(b, []byte("refresh")) || bytes.Contains(b, []byte("Token")) {
			t.Errorf("a file of mode %v, %v", info.Mode(), err)
		}
		sealed[file.Name()] = b
		two = file.Name()
	}
	mustToken(t, cache.Partition(one.Key()), a, "write")
	for name := range sealed { // swapped, neither opens
		if name != two {
			_ = os.WriteFile(filepath.Join(f.dir, name), sealed[two], 0o600)
			_ = os.WriteFile(filepath.Join(f.dir, two), sealed[name], 0o600)
		}
	}
	for _, who := range []string{account, "other"} {
		wantError(t, cache.Partition(tokencache.AccountKey(who)).Check(t.Context()), tokencache.ErrUnreadable)
	}
	again := mustSignIn(t, cache, a, "read") // as after the loss of a key
	mustToken(t, cache.Partition(again.Key()), nil, "read")
}
