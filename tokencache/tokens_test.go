package tokencache

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestTokensZero(t *testing.T) {
	t.Parallel()
	var tokens Tokens
	b, err := json.Marshal(&tokens)
	if err != nil || string(b) != emptyDocument {
		t.Errorf("got %s, %v", b, err)
	}
	if tokens.Entries() != nil || tokens.Accounts() != nil || tokens.String() != "0 access, 0 refresh and 0 ID tokens" {
		t.Errorf("the zero Tokens have something: %v", tokens)
	}
}

func TestTokensStream(t *testing.T) {
	t.Parallel()
	from := tokensOf(mustSnapshot(t, goldenDocument(t), testNow))
	var first, second bytes.Buffer
	if err := from.Serialize(&first); err != nil {
		t.Fatal(err)
	}
	var to Tokens
	if err := to.Deserialize(iotest.OneByteReader(bytes.NewReader(first.Bytes()))); err != nil {
		t.Fatal(err)
	}
	if err := to.Serialize(&second); err != nil || second.String() != encoded(goldenDocument(t)) || first.String() != second.String() {
		t.Errorf("%v\nwrote %s\n then %s", err, first.String(), second.String())
	}
	b, err := to.MarshalJSON()
	if err != nil || string(b) != first.String() {
		t.Errorf("MarshalJSON differs from Serialize: %s, %v", b, err)
	}
	if err := to.Deserialize(strings.NewReader(`{"Account":{}}`)); err != nil || len(to.Entries()) != 0 {
		t.Errorf("Deserialize does not replace: %v, %v", to, err)
	}
	if err := from.Deserialize(strings.NewReader("")); err != nil || len(from.Entries()) != 0 {
		t.Errorf("nothing in the stream leaves %v, %v", from, err)
	}
}

func TestTokensFailures(t *testing.T) {
	t.Parallel()
	tokens := tokensOf(mustSnapshot(t, goldenDocument(t), testNow))
	const bad = `{"RefreshToken":{"k":{"secret":["marker"]}}}`
	endless := io.MultiReader(strings.NewReader(`{"marker":"`), infinite{})
	for name, err := range map[string]error{
		"unmarshal":           json.Unmarshal([]byte(bad), tokens),
		"unmarshal directly":  tokens.UnmarshalJSON([]byte("{marker")),
		"unmarshal a list":    json.Unmarshal([]byte(`["marker"]`), tokens),
		"deserialize":         tokens.Deserialize(strings.NewReader(bad)),
		"deserialize, broken": tokens.Deserialize(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(bad)))),
		"serialize, broken":   tokens.Serialize(brokenWriter{}),
		"deserialize endless": tokens.Deserialize(endless),
	} {
		if err == nil || strings.Contains(err.Error(), "marker") {
			t.Errorf("%s: got the error %v", name, err)
		}
		if name == "deserialize endless" && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: got the error %v", name, err)
		}
	}
	if err := json.Unmarshal([]byte("null"), tokens); err != nil || len(tokens.Entries()) != 5 {
		t.Errorf("the tokens are not as before: %v, %v", tokens, err)
	}
}

// infinite is a stream of letters.
type infinite struct{}

func (infinite) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// What is written can be read back, also where keys make it longer than what
// was read.
func TestTokensMarshalTooLarge(t *testing.T) {
	t.Parallel()
	scopes := strings.Repeat("x", MaxTokensSize*3/4)
	var tokens Tokens
	if err := tokens.UnmarshalJSON([]byte(sectionOf("AccessToken", accessItem("s", 0, time.Hour, scopes)))); err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.MarshalJSON(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got the error %v", err)
	}
}

// json.Unmarshal's input belongs to its caller.
func TestTokensKeepNoInput(t *testing.T) {
	t.Parallel()
	b := []byte(encoded(goldenDocument(t)))
	want := string(b)
	var tokens Tokens
	if err := tokens.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	clear(b)
	if got, err := tokens.MarshalJSON(); err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestTokensUndecodable(t *testing.T) {
	t.Parallel()
	s := mustSnapshot(t, goldenDocument(t), testNow)
	copy(s.json, "marker")
	tokens := tokensOf(s)
	_, err := tokens.MarshalJSON()
	if err == nil || tokens.Serialize(io.Discard) == nil || tokens.Entries() != nil || tokens.Accounts() != nil {
		t.Error("tokens that do not decode are shown")
	}
	if got := fmt.Sprint(tokens, *tokens, err); strings.Contains(got, "marker") {
		t.Error(got)
	}
}

func TestTokensDoNotPrint(t *testing.T) {
	t.Parallel()
	const marker = "marker"
	d := mustParse(t, sectionOf("AccessToken", accessItem(marker+"-access", 0, time.Hour, "a")))
	mustApply(t, d, change{signIn: true, grant: Grant{AccessToken: marker, RefreshToken: marker, IDToken: marker, Account: Account{Name: marker}}},
		&writer{clientID: testClient, environment: testEnv, account: marker}, testNow)
	lazy := tokensOf(mustSnapshot(t, d, testNow))
	decoded := &Tokens{doc: d}
	var out strings.Builder
	for _, tokens := range []*Tokens{lazy, decoded} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, format, tokens)
			fmt.Fprintf(&out, format, *tokens)
			fmt.Fprintf(&out, format, struct{ T *Tokens }{tokens})
			fmt.Fprintf(&out, format, struct{ T Tokens }{*tokens})
		}
		slog.New(slog.NewJSONHandler(&out, nil)).Info("message", "tokens", tokens, "value", *tokens)
		fmt.Fprintf(&out, "%+v", tokens.Entries())
	}
	if strings.Contains(out.String(), marker) {
		t.Errorf("a secret was printed: %s", out.String())
	}
	if got := fmt.Sprint(lazy); got != lazy.GoString() || got != "2 access, 1 refresh and 1 ID tokens" {
		t.Errorf("got %q", got)
	}
}

func TestTokensEntries(t *testing.T) {
	t.Parallel()
	jwt := func(payload string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".sig"
	}
	d := goldenDocument(t)
	for i, payload := range []string{`{"aud":"api://one"}`, `{"aud":["api://two","x"]}`, `{"aud":7}`, `no JSON`, `{}`} {
		mustApply(t, d, change{req: Request{Scopes: []string{fmt.Sprint(i)}}, grant: Grant{AccessToken: Secret(jwt(payload)), IDToken: Secret(jwt(payload))}}, testWriter(), testNow)
	}
	tokens := tokensOf(mustSnapshot(t, d, testNow))
	entries := tokens.Entries()
	wantSame(t, "entry", entries[5], Entry{
		Kind: "access", Tenant: "other", ClientID: "cousin", Scopes: []string{"x"}, Type: "pop",
		CachedAt: time.Unix(1795245000, 0), Expires: time.Unix(1795249999, 0),
	})
	var got []string
	for _, e := range entries {
		got = append(got, fmt.Sprint(e.Kind, " ", e.ClientID, " ", e.Tenant, " ", e.Scopes, " ", e.Resource, " ", e.Audience, " ", e.Type,
			" ", e.CachedAt.Equal(testNow), " ", e.Expires.IsZero()))
	}
	wantSame(t, "entries", got, []string{
		"access client utid [0]  api://one Bearer true false",
		"access client utid [1]  api://two Bearer true false",
		"access client utid [2]   Bearer true false",
		"access client utid [3]   Bearer true false",
		"access client utid [4]   Bearer true false",
		"access cousin other [x]   pop false false",
		"access client utid [Write Read] https://api.example https://api.example Bearer true false",
		"refresh cousin  []    false true",
		"refresh client  []    true true",
		"id client utid []    true true",
	})
	wantSame(t, "accounts", tokens.Accounts(), []Account{{ID: testAccount, LocalID: "local", Tenant: "utid", Username: "user", Name: "Name"}})
}
