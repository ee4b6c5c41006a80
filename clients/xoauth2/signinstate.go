package xoauth2

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// signInLife is how long the user may take at the authorization server.
const signInLife = 15 * time.Minute

// maxSignIn bounds the text of a SignIn, in bytes.
const maxSignIn = 16 << 10

// SignIn is a sign-in that was begun, from [Client.BeginSignIn] to
// [Client.CompleteSignIn]: state, nonce, PKCE verifier and scopes. It is good
// for 15 minutes. The zero value is no sign-in, and completes nothing.
//
// Keep [SignIn.Encode] in the session of the browser that was sent to the
// authorization server, which is how a stranger's callback is told from the
// user's own. Use a server-side session, or a cookie that is encrypted and
// authenticated.
type SignIn struct {
	pending *pending // a pointer prints as one, wherever a SignIn is a field
}

// pending is the JSON form.
type pending struct {
	Issuer   string   `json:"iss"`
	State    string   `json:"state"`
	Nonce    string   `json:"nonce"`
	Verifier string   `json:"verifier"`
	Scopes   []string `json:"scopes"`
	Session  string   `json:"session,omitempty"`
	Account  string   `json:"account,omitempty"`
	Redirect string   `json:"redirect,omitempty"` // unless it is that of the client
	Started  int64    `json:"started"`            // seconds since 1970
}

var errSignIn = errors.New("xoauth2: not a SignIn")

// Encode returns the sign-in as text: JSON in unpadded base64url. The text of
// the zero value is empty.
func (s SignIn) Encode() string {
	if s.pending == nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(plainJSON(s.pending))
}

// plainJSON is for what no page shows, and what cannot fail. json.Marshal writes six
// bytes for each of <, > and &, which scopes and claims may be made of.
func plainJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// ParseSignIn reads what Encode wrote. The error does not repeat the text.
func ParseSignIn(text string) (SignIn, error) {
	if len(text) > maxSignIn {
		return SignIn{}, errSignIn
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return SignIn{}, errSignIn
	}
	var p pending
	if json.Unmarshal(b, &p) != nil {
		return SignIn{}, errSignIn
	}
	// An empty state would be the state of a callback without one.
	if p.Issuer == "" || len(p.State) < 43 || len(p.Nonce) < 43 || len(p.Verifier) < 43 {
		return SignIn{}, errSignIn
	}
	return SignIn{&p}, nil
}

// check tells whether the sign-in can still be completed by a client of issuer.
func (s SignIn) check(issuer string) error {
	if s.pending == nil {
		return badCallback("no sign-in was begun in this session")
	}
	age := time.Since(time.Unix(s.pending.Started, 0))
	switch {
	case s.pending.Issuer != issuer:
		return badCallback("the sign-in was begun at another authorization server")
	case age > signInLife || age < -signInLife:
		return badCallback("the sign-in was begun more than 15 minutes ago")
	}
	return nil
}

// String returns "sign-in", so that logs show no secret.
func (s SignIn) String() string { return "sign-in" }

// GoString returns "sign-in".
func (s SignIn) GoString() string { return "sign-in" }

// Format writes "sign-in" for every verb.
func (s SignIn) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "sign-in") }

// LogValue returns "sign-in".
func (s SignIn) LogValue() slog.Value { return slog.StringValue("sign-in") }
