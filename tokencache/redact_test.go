package tokencache

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	const marker = "marker-of-a-secret"
	type holder struct {
		S Secret
		T Ticket
	}
	h := holder{S: marker, T: Ticket{account: marker}}
	var out strings.Builder
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3s"} {
		fmt.Fprintf(&out, format, h.S)
		fmt.Fprintf(&out, format, &h.S)
		fmt.Fprintf(&out, format, []Secret{h.S})
	}
	fmt.Fprintf(&out, "%v %+v %#v %v %#v", h, h, h, h.T, h.T)
	for _, v := range []any{h, map[string]Secret{"k": h.S}, &h.S} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("message", "secret", h.S, "ticket", h.T, "holder", h)
	}
	if text := out.String(); strings.Contains(text, marker) || strings.Contains(text, fmt.Sprintf("%x", marker)) {
		t.Errorf("a secret was printed: %s", text)
	}
	if string(h.S) != marker {
		t.Error("the conversion to string does not give the value")
	}
}

// fmt would show accounts and keys in unexported fields, for %d also where there
// is a String method.
func TestKeysAndAccountsDoNotPrint(t *testing.T) {
	t.Parallel()
	const marker = "marker-of-an-account"
	raw := testKey("raw")
	shown := fmt.Sprintf("%#x, %#x", raw[0], raw[1]) // as %#v shows a slice
	keys := Keys{Names: raw, Seal: newRing(t, raw)}
	ring := keys.Seal.(*KeyRing)
	assertion := Assertion{token: marker, hash: marker, claims: AssertionClaims{Account: marker, Tenant: marker}}
	ticket := Ticket{account: marker, generation: generation{1}}
	cache := &Cache{ns: Namespace{Issuer: marker}, opts: Options{Keys: &keys}, names: newNamer(raw, Namespace{})}
	account, session := AccountKey(marker), SessionKey(marker, marker)
	for _, tt := range []struct {
		value any
		want  string
	}{
		{account, "account key"},
		{&account, "account key"},
		{session, "session key"},
		{ApplicationKey(marker, marker), "application key"},
		{AssertionKey(assertion), "assertion key"},
		{ticket.Key(), "account key"},
		{Key{}, "zero key"},
		{ticket, "ticket"},
		{&ticket, "ticket"},
		{assertion, "assertion"},
		{&assertion, "assertion"},
		{keys, "keys"},
		{&keys, "keys"},
		{*ring, "key ring"},
		{ring, "key ring"},
		{cache, "cache"},
		{&Partition{cache: cache, key: session}, "partition"},
		{[]Key{account, session}, "[account key session key]"},
		{map[Ticket]Assertion{ticket: assertion}, "map[ticket:assertion]"},
		{struct {
			A Assertion
			K *Keys
			C *Cache
		}{assertion, &keys, cache}, "{assertion keys cache}"},
	} {
		for _, verb := range "vbcdoOqxXUeEfFgGst" {
			for _, flags := range []string{"%", "%+", "% ", "%-30.3"} {
				if got := fmt.Sprintf(flags+string(verb), tt.value); strings.NewReplacer("A:", "", "K:", "", "C:", "").Replace(got) != tt.want {
					t.Errorf("%s%c of a %T: got %q, want %q", flags, verb, tt.value, got, tt.want)
				}
			}
		}
		if got := fmt.Sprintf("%#v", tt.value); strings.Contains(got, marker) || strings.Contains(got, string(raw)) || strings.Contains(got, shown) {
			t.Errorf("%%#v of a %T: got %q", tt.value, got)
		}
	}
}
