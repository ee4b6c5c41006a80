package idp

import (
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"
)

func newCode(st *store) redemption {
	verifier := strings.Repeat("v", 43)
	c := &code{
		issuer: "iss", redirectURI: "uri", challenge: oauth2.S256ChallengeFromVerifier(verifier),
		session: session{clientID: "client", user: user{key: "anna", name: "Anna"}},
	}
	return redemption{
		value: st.issueCode(c, false), issuer: "iss", clientID: "client", redirectURI: "uri", verifier: verifier,
	}
}

func TestCodeExpires(t *testing.T) {
	t.Parallel()
	for age, ok := range map[time.Duration]bool{
		0: true, codeLifetime: true, codeLifetime + time.Millisecond: false, codeMemory + time.Second: false,
	} {
		synctest.Test(t, func(t *testing.T) {
			st := newStore()
			r := newCode(st)
			time.Sleep(age)
			if _, e := st.redeem(r); (e == nil) != ok {
				t.Errorf("after %s: error %v, want success %v", age, e, ok)
			}
		})
	}
}

func TestFamilyExpiresAfterLastUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := newStore()
		s, e := st.redeem(newCode(st))
		if e != nil {
			t.Fatal(e.description)
		}
		token := st.refreshToken(s.familyID, 0)
		for range 3 {
			time.Sleep(familyLifetime - time.Second)
			if _, token, e = st.rotate(token, "client", false); e != nil {
				t.Fatal(e.description)
			}
		}
		time.Sleep(familyLifetime)
		if _, _, e = st.rotate(token, "client", false); e == nil || e.code != "invalid_grant" {
			t.Errorf("error %v, want invalid_grant", e)
		}
		if st.alive(s.familyID) || st.snapshot().RefreshReused != 0 {
			t.Error("an expired family is alive, or counts as reuse")
		}
	})
}

func TestBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBounded[int](3, time.Minute)
		for i := range 3 {
			b.put(strconv.Itoa(i), i)
			time.Sleep(time.Second)
		}
		b.touch("0")
		b.put("3", 3) // makes room: 1 was used longest ago
		for key, want := range map[string]bool{"0": true, "1": false, "2": true, "3": true} {
			if _, ok := b.get(key); ok != want {
				t.Errorf("%s present: %v, want %v", key, ok, want)
			}
		}
		b.put("3", 33)
		if v, _ := b.get("3"); v != 33 || b.order.Len() != 3 || len(b.byKey) != 3 {
			t.Errorf("got %d with %d entries, want 33 with 3", v, b.order.Len())
		}
		time.Sleep(time.Minute)
		if _, ok := b.get("3"); ok {
			t.Error("an expired entry is returned")
		}
		b.put("4", 4)
		if b.order.Len() != 1 || len(b.byKey) != 1 {
			t.Errorf("%d entries after the sweep, want 1", b.order.Len())
		}
	})
}

// FuzzMatchRedirect looks for a URI that passes for a registered one and leads
// elsewhere: whatever matches must be the registered text but for the port.
func FuzzMatchRedirect(f *testing.F) {
	for _, uri := range []string{
		"http://127.0.0.1:8080/cb", "http://[::1]:1/cb?a=b", "http://127.0.0.1:1@evil.test/cb", "http://127.0.0.1:/cb",
		"http://localhost/cb", "https://app.test/cb", "http://127.0.0.1:80\\@x/cb", "http://[::1%25x]:1/cb?a=b",
	} {
		f.Add(uri)
	}
	registered := []string{"http://127.0.0.1/cb", "http://[::1]/cb?a=b", "https://app.test/cb"}
	f.Fuzz(func(t *testing.T, uri string) {
		if !matchRedirect(registered, uri) {
			return
		}
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatalf("%q matches and does not parse", uri)
		}
		without := strings.Replace(uri, ":"+u.Port()+"/", "/", 1)
		for _, r := range registered {
			if uri == r || (u.Port() != "" && without == r) {
				return
			}
		}
		t.Errorf("%q matches", uri)
	})
}

// FuzzRefreshToken checks that nothing but an issued token parses.
func FuzzRefreshToken(f *testing.F) {
	st := newStore()
	good := st.refreshToken("FAMILY", 7)
	for _, s := range []string{good, "", ".", "..", "a.b.c", good + ".", strings.ToLower(good)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if id, n, ok := st.parseRefreshToken(s); ok && (s != good || id != "FAMILY" || n != 7) {
			t.Errorf("%q parses as %q, %d", s, id, n)
		}
	})
}
