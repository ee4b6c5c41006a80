package tokencache_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// keySetOf returns keys that are the same at each run: names, and the labels'.
func keySetOf(t testing.TB, labels []string, revoked ...string) *tokencache.Keys {
	t.Helper()
	key := func(label string) string {
		k := sha256.Sum256([]byte("coatcheck test key " + label))
		return base64.StdEncoding.EncodeToString(k[:])
	}
	var seal []string
	for _, l := range labels {
		seal = append(seal, key(l))
	}
	text := fmt.Sprintf(`{"names":%q,"seal":["%s"],"revoked":[%s]}`, key("names"), strings.Join(seal, `","`), strings.Join(revoked, ","))
	keys, err := tokencache.LoadKeys(t.Context(), func(context.Context) ([]byte, error) { return []byte(text), nil })
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// foreignAEAD opens nothing that it has not sealed itself.
type foreignAEAD struct{ tokencache.AEAD }

func (f foreignAEAD) Decrypt(c, ad []byte) ([]byte, error) {
	plain, err := f.AEAD.Decrypt(c, ad)
	if err != nil {
		return nil, errors.New("marker of a foreign error")
	}
	return plain, nil
}

// vault is a provider outside the process, and what was saved last in it.
type vault struct {
	*faulty
	inner tokencache.Provider
	name  tokencache.Name
	rec   tokencache.Record
}

func newVault(t testing.TB) *vault {
	t.Helper()
	v := &vault{inner: newProvider(t)}
	v.faulty = &faulty{Provider: v.inner, hide: func(c *tokencache.Capabilities) { c.InProcess = false }}
	v.set(nil, func(ctx context.Context, n tokencache.Name, r tokencache.Record, c tokencache.Condition) error {
		v.name, v.rec = n, r
		return v.inner.Save(ctx, n, r, c)
	})
	return v
}

func (v *vault) put(t testing.TB, n tokencache.Name, r tokencache.Record) {
	t.Helper()
	if err := v.inner.Save(t.Context(), n, r, tokencache.Always()); err != nil {
		t.Fatal(err)
	}
}

// A record that does not open is kept as it is, whoever asks, is neither absent
// nor an outage, and the user's next sign-in replaces it.
func TestUnreadableRecordsAreKeptAndHealed(t *testing.T) {
	t.Parallel()
	const id1 = "0f9223c0" // of the key "1"
	one := func(t testing.TB) *tokencache.Options {
		return noCopies(tokencache.Options{Keys: keySetOf(t, []string{"1"})})
	}
	same := func(r *tokencache.Record) { r.Sealed = bytes.Clone(r.Sealed) }
	flip := func(at int) func(*tokencache.Record) {
		return func(r *tokencache.Record) { same(r); r.Sealed[at] ^= 1 }
	}
	for what, tt := range map[string]struct {
		spoil  func(*tokencache.Record)
		reader func(testing.TB) *tokencache.Options // of the cache that reads and heals
	}{
		"magic":           {flip(0), one},
		"format":          {flip(2), one},
		"downgraded":      {flip(3), one},
		"ring format":     {flip(4), one},
		"algorithm":       {flip(5), one},
		"key ID":          {flip(6), one},
		"salt":            {flip(10), one},
		"nonce":           {flip(26), one},
		"ciphertext":      {flip(60), one},
		"cut to a byte":   {func(r *tokencache.Record) { r.Sealed = r.Sealed[:1] }, one},
		"cut to a header": {func(r *tokencache.Record) { r.Sealed = r.Sealed[:26] }, one},
		"cut by a byte":   {func(r *tokencache.Record) { r.Sealed = r.Sealed[:len(r.Sealed)-1] }, one},
		"old under newer": {func(r *tokencache.Record) { r.Version = tokencache.NewVersion() }, one},
		"planted":         {func(r *tokencache.Record) { r.Sealed = append([]byte{'C', 'C', 1, 0}, "CC and the rest"...) }, one},
		"JSON":            {func(r *tokencache.Record) { r.Sealed = []byte(`{"RefreshToken":{}}`) }, one},
		"unknown key": {same, func(t testing.TB) *tokencache.Options {
			return noCopies(tokencache.Options{Keys: keySetOf(t, []string{"2"})})
		}},
		"revoked key": {same, func(t testing.TB) *tokencache.Options {
			return noCopies(tokencache.Options{Keys: keySetOf(t, []string{"2"}, `"`+id1+`"`)})
		}},
		"foreign AEAD": {same, func(t testing.TB) *tokencache.Options {
			keys := keySetOf(t, []string{"2"})
			keys.Seal = foreignAEAD{keys.Seal}
			return noCopies(tokencache.Options{Keys: keys})
		}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			v, a := newVault(t), newAuthority()
			mustSignIn(t, newCache(t, v, one(t)), a, "read")
			bad := v.rec
			tt.spoil(&bad)
			checkUnreadable(t, v, a, tt.reader(t), v.name, bad)
		})
	}
	t.Run("of another user", func(t *testing.T) {
		t.Parallel()
		v, a := newVault(t), newAuthority()
		cache := newCache(t, v, one(t))
		if _, err := cache.SignIn(t.Context(), a.signInAs("mallory", "read")); err != nil {
			t.Fatal(err)
		}
		bad := v.rec
		mustSignIn(t, cache, a, "read")
		checkUnreadable(t, v, a, one(t), v.name, bad)
	})
	t.Run("of another client", func(t *testing.T) {
		t.Parallel()
		v, a := newVault(t), newAuthority()
		other, err := tokencache.New(v, tokencache.Namespace{Issuer: namespace.Issuer, ClientID: "other"}, one(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = other.Close(context.Background()) })
		mustSignIn(t, other, a, "read")
		bad := v.rec
		mustSignIn(t, newCache(t, v, one(t)), a, "read")
		checkUnreadable(t, v, a, one(t), v.name, bad)
	})
	t.Run("sealed, where there are no keys", func(t *testing.T) {
		t.Parallel()
		v, a := newVault(t), newAuthority()
		mustSignIn(t, newCache(t, v, one(t)), a, "read")
		bad := v.rec
		none := noCopies(tokencache.Options{AllowUnencryptedStorage: true})
		mustSignIn(t, newCache(t, v, none), a, "read")
		checkUnreadable(t, v, a, none, v.name, bad)
	})
}

// checkUnreadable puts a record that does not open under the account's name, and
// checks what a cache with these options does with it.
func checkUnreadable(t *testing.T, v *vault, a *authority, o *tokencache.Options, n tokencache.Name, bad tokencache.Record) {
	t.Helper()
	v.put(t, n, bad)
	cache := newCache(t, v, o)
	key := tokencache.AccountKey(account)
	saves := v.saves.Load()
	for range 2 {
		_, errToken := cache.Partition(key).Token(t.Context(), request("read"), a)
		_, errOther := cache.Partition(key).Token(t.Context(), request("write"), a)
		_, errTokens := cache.Partition(key).Tokens(t.Context())
		for method, err := range map[string]error{
			"Token": errToken, "Token for another scope": errOther, "Tokens": errTokens,
			"Check": cache.Partition(key).Check(t.Context()), "Expire": cache.Partition(key).Expire(t.Context()),
		} {
			var down *tokencache.ServerError
			switch {
			case !errors.Is(err, tokencache.ErrUnreadable), !errors.Is(err, tokencache.ErrNoTokens),
				errors.Is(err, tokencache.ErrNotFound), errors.Is(err, tokencache.ErrRemoved),
				errors.Is(err, tokencache.ErrUnavailable), errors.As(err, &down):
				t.Errorf("%s: got %v, want ErrUnreadable alone", method, err)
			case strings.Contains(err.Error(), "marker"):
				t.Errorf("%s: got %v, which repeats a foreign error", method, err)
			}
		}
	}
	a.wantRefreshes(t, 0)
	got, err := v.inner.Load(t.Context(), n)
	if err != nil || !bytes.Equal(got.Sealed, bad.Sealed) || got.Version != bad.Version || !got.Expires.Equal(bad.Expires) || v.saves.Load() != saves {
		t.Errorf("the record was touched: %v", err)
	}
	ticket := mustSignIn(t, cache, a, "read")
	if v.name != n {
		t.Fatal("the sign-in went to another name: the test looks at nothing")
	}
	tok := mustToken(t, newCache(t, v, o).Partition(ticket.Key()), nil, "read")
	if tok.Source != tokencache.SourceProvider {
		t.Errorf("the token after the sign-in is from %v", tok.Source)
	}
}
