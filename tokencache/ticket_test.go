package tokencache

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTicketRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := Ticket{account: rapid.StringN(1, 100, 300).Draw(t, "account"), generation: newGeneration()}
		id := AccountKey(want.account).id
		if rapid.Bool().Draw(t, "apart") {
			want.session = rapid.StringN(1, 100, 300).Draw(t, "session")
			id = SessionKey(want.account, want.session).id
		}
		got, err := ParseTicket(want.Encode())
		if err != nil || got != want {
			t.Fatalf("got %v, %v", got == want, err)
		}
		if key := got.Key(); key.id != id || key.generation != want.generation {
			t.Error("the key is not that of the partition at this generation")
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
		"an empty session":    good + ".",
		"two sessions":        good + ".YQ.YQ",
		"no session":          good + ".!",
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

func TestParseTicketAllocatesTheAccountOnly(t *testing.T) {
	text := Ticket{account: "uid.utid", generation: newGeneration()}.Encode()
	if got := testing.AllocsPerRun(100, func() {
		if _, err := ParseTicket(text); err != nil {
			t.Error(err)
		}
	}); got > 1 {
		t.Errorf("%v allocations, want 1", got)
	}
}
