package tokencache

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTicketRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := Ticket{account: rapid.StringN(1, 100, 300).Draw(t, "account"), generation: newGeneration()}
		got, err := ParseTicket(want.Encode())
		if err != nil || got != want {
			t.Fatalf("got %v, %v", got == want, err)
		}
		if key := got.Key(); key.id != AccountKey(want.account).id || key.generation != want.generation {
			t.Error("the key is not the account's at this generation")
		}
	})
}

func TestParseTicketRefuses(t *testing.T) {
	t.Parallel()
	good := Ticket{account: "account", generation: generation{1, 2, 3}}.Encode()
	for name, text := range map[string]string{
		"empty":               "",
		"no account":          good[:strings.LastIndexByte(good, '.')+1],
		"no generation":       "1..YWNjb3VudA",
		"zero generation":     Ticket{account: "account"}.Encode(),
		"short generation":    "1.AQID.YWNjb3VudA",
		"another version":     "2" + good[1:],
		"trailing text":       good + "!",
		"padding":             good + "=",
		"huge":                good + strings.Repeat("A", 4096),
		"not base64url":       "1.????.YWNjb3VudA",
		"newline in base64":   good[:5] + "\n" + good[5:],
		"an account, no more": "account",
	} {
		if got, err := ParseTicket(text); err == nil {
			t.Errorf("%s: accepted as %#v", name, got)
		}
	}
}

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
