package tokencache

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func testNamer(issuer, client, tenant string) namer {
	key := []byte("0123456789abcdefghijklmnopqrstuv")
	return newNamer(key, Namespace{Issuer: issuer, ClientID: client, Tenant: tenant})
}

// Names of a release must be found by the next one, so these never change.
func TestNamesAreStable(t *testing.T) {
	t.Parallel()
	n := testNamer("https://login.example/tenant/v2.0", "client", "")
	var got []string
	for _, k := range []keyID{
		AccountKey("uid.utid").id,
		AssertionKey(Assertion{hash: "hash", claims: AssertionClaims{Account: "uid.utid", Tenant: "utid"}}).id,
		ApplicationKey("utid", "https://api.example").id,
		ApplicationKey("", "https://api.example").id,
		SessionKey("uid.utid", "job 1").id,
		{kind: kindSID, part: "https://login.example 1"},
	} {
		name, err := n.name(k)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, name.Owner+" "+name.Partition)
	}
	if !slices.Equal(got, goldenNames) {
		t.Errorf("names changed; every stored partition would be lost.\ngot  %q\nwant %q", got, goldenNames)
	}
}

// keyGen draws keys whose parts are prone to be confused with each other.
func keyGen() *rapid.Generator[keyID] {
	part := rapid.OneOf(
		rapid.SampledFrom([]string{"", "a", "b", "ab", "aa", "a.b", "\x00", "\xff\xff\xff\xff", "A"}),
		rapid.String(),
	)
	return rapid.Custom(func(t *rapid.T) keyID {
		return keyID{
			kind:    rapid.SampledFrom([]keyKind{kindAccount, kindAssertion, kindApplication, kindSession}).Draw(t, "kind"),
			account: part.Draw(t, "account"),
			tenant:  part.Draw(t, "tenant"),
			part:    part.Draw(t, "part"),
		}
	})
}

func TestNamesAreInjective(t *testing.T) {
	t.Parallel()
	part := rapid.SampledFrom([]string{"a", "b", "ab", "https://a", ""})
	rapid.Check(t, func(t *rapid.T) {
		a, b := keyGen().Draw(t, "a"), keyGen().Draw(t, "b")
		na := testNamer(part.Draw(t, "issuer a"), part.Draw(t, "client a"), part.Draw(t, "tenant a"))
		nb := testNamer(part.Draw(t, "issuer b"), part.Draw(t, "client b"), part.Draw(t, "tenant b"))
		x, y := na.names(a), nb.names(b)
		same := a == b && na.ns == nb.ns
		if got := x.Partition == y.Partition; got != same {
			t.Errorf("partition names equal: %v, want %v\n%+v %+v\n%+v %+v", got, same, na.ns, a, nb.ns, b)
		}
		sameOwner := a.account == b.account && na.ns == nb.ns
		if got := x.Owner == y.Owner; got != sameOwner {
			t.Errorf("owner names equal: %v, want %v", got, sameOwner)
		}
		if x.Owner == x.Partition {
			t.Error("an owner and a partition share a name")
		}
	})
}

func TestNamesTellNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		account := rapid.StringMatching(`[a-z0-9.@-]{6,40}`).Draw(t, "account")
		name, err := testNamer("https://login.example", "client", "").name(AccountKey(account).id)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{name.Owner, name.Partition} {
			if raw, err := base64.RawURLEncoding.DecodeString(s); err != nil || len(raw) != 32 {
				t.Errorf("%q is not 32 bytes of unpadded base64url", s)
			}
			if strings.Contains(s, account) {
				t.Errorf("the name %q shows the account", s)
			}
		}
		other := newNamer([]byte(strings.Repeat("x", 31)+"y"), testNamer("https://login.example", "client", "").ns)
		if n2, _ := other.name(AccountKey(account).id); n2 == name {
			t.Error("another key gives the same name: anyone could compute it")
		}
	})
}

func TestKeysWithEmptyParts(t *testing.T) {
	t.Parallel()
	n := testNamer("https://login.example", "client", "")
	for name, key := range map[string]Key{
		"zero":                 {},
		"account":              AccountKey(""),
		"assertion, zero":      AssertionKey(Assertion{}),
		"application":          ApplicationKey("tenant", ""),
		"session, no account":  SessionKey("", "job"),
		"session, no name":     SessionKey("account", ""),
		"assertion, no hash":   AssertionKey(Assertion{claims: AssertionClaims{Account: "a"}}),
		"assertion, no owner":  AssertionKey(Assertion{hash: "h"}),
		"kind of another time": {id: keyID{kind: 9, account: "a", part: "p"}},
	} {
		if got, err := n.name(key.id); err == nil {
			t.Errorf("%s: got the name %v, want an error", name, got)
		}
	}
}

type verifierFunc func(string) (AssertionClaims, error)

func (f verifierFunc) Verify(_ context.Context, token string) (AssertionClaims, error) {
	return f(token)
}

func TestVerifyAssertion(t *testing.T) {
	t.Parallel()
	expires := time.Now().Add(time.Hour).Truncate(time.Second) // as tokens say it
	accept := verifierFunc(func(string) (AssertionClaims, error) {
		return AssertionClaims{Account: "uid.utid", Tenant: "utid", Expires: expires}, nil
	})
	a, err := VerifyAssertion(t.Context(), accept, "token")
	if err != nil {
		t.Fatal(err)
	}
	// SHA-256 of "token", as MSAL.NET names the partition.
	if want := "PEaIezc3kJUOk4KLHhQUgo3aeqBSBjnyZmsGcLwqOAM"; len(a.hash) != len(want) {
		t.Errorf("hash %q has another length than unpadded base64url of SHA-256", a.hash)
	}
	key := AssertionKey(a)
	if key.Account() != "uid.utid" || !key.ends().Equal(expires) {
		t.Errorf("the key does not carry the owner or the end")
	}
	b, _ := VerifyAssertion(t.Context(), accept, "token2")
	if a.hash == b.hash {
		t.Error("two tokens have one hash")
	}

	for name, v := range map[string]verifierFunc{
		"refused": func(string) (AssertionClaims, error) {
			return AssertionClaims{Account: "a", Expires: expires}, errors.New("bad signature")
		},
		"no account": func(string) (AssertionClaims, error) { return AssertionClaims{Expires: expires}, nil },
		"no expiry":  func(string) (AssertionClaims, error) { return AssertionClaims{Account: "a"}, nil },
		"ended": func(string) (AssertionClaims, error) {
			return AssertionClaims{Account: "a", Expires: time.Now().Add(-time.Second)}, nil
		},
	} {
		a, err := VerifyAssertion(t.Context(), v, "token")
		if err == nil || a.hash != "" || a.token != "" {
			t.Errorf("%s: got an assertion", name)
		}
	}
}

// goldenNames were computed by the first release.
var goldenNames = []string{
	"K8frBOEWHviCdxEVK3oYGu9fPYS6rZmEWNr9rcxP5HM _u8M9q7G2yleGdVNBnXXQkXaaTcpLD5qdq6nz89hFv8",
	"K8frBOEWHviCdxEVK3oYGu9fPYS6rZmEWNr9rcxP5HM ASF6e1Jzbv-64NQQYyPg-v7tnKEyNHQ1jlPOFaMZG9w",
	"y8PJtxiiRNin5ijuanG_kVg69xURXHElqogQ1LUwCxw qSmhWWz49p5eVvL9xKtp6t_-Psw7Pm1OxLwiGJ3d5x4",
	"y8PJtxiiRNin5ijuanG_kVg69xURXHElqogQ1LUwCxw GDOmnIca2-DA9g6CVDpTILxLvcKv3D-DaeZR6bZylYk",
	"K8frBOEWHviCdxEVK3oYGu9fPYS6rZmEWNr9rcxP5HM LB4498Y8YAeXZinXZcCFx-GMAFEOkxK9hZqEtYl36r4",
	"Zhv5DshUCidKFUB7_vD-ygn6MQvShXXGZTQaDHX5XAU Zhv5DshUCidKFUB7_vD-ygn6MQvShXXGZTQaDHX5XAU",
}

// Whoever gave the key may wipe it.
func TestNameKeyIsCopied(t *testing.T) {
	t.Parallel()
	key := []byte(strings.Repeat("x", KeySize))
	kept := newNamer(bytes.Clone(key), Namespace{})
	n := newNamer(key, Namespace{})
	clear(key)
	if n.names(AccountKey("uid.utid").id) != kept.names(AccountKey("uid.utid").id) {
		t.Error("another name when the key was wiped")
	}
}
