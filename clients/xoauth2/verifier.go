package xoauth2

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// ErrAccessToken means that an incoming access token failed verification: the text
// names the check.
var ErrAccessToken = errors.New("xoauth2: the access token is not valid")

// maxAccessToken bounds an incoming token, in bytes, before anything of it is read.
const maxAccessToken = 16 << 10

// Verifier returns a verifier of access tokens that this authorization server has
// issued for an API, for [tokencache.VerifyAssertion] and the middleware. The
// audiences are what the API is called there (aud); with none, it is the client ID.
//
// A token must be a JWT signed by the server with an asymmetric algorithm (RFC 9068
// §4, and Microsoft Entra ID's), name the issuer and one of the audiences, be within
// its time, and be an access token: of the type at+jwt, or with scopes (scope, scp),
// which an ID token has not. An application's own token of Entra ID has roles instead,
// as ID tokens may have, and azp, as they have not. Its account is the user's home
// account as far as the token tells: oid and tid on Entra ID, sub elsewhere. A guest's
// home is another directory, so that a guest has another account here than in a web
// app. An application's account elsewhere is "client " and sub, which is no user's.
//
// Errors of the verifier: [ErrAccessToken], the context's, or a
// *[tokencache.ServerError] if the server's keys cannot be had. It is safe for
// concurrent use.
func (c *Client) Verifier(audiences ...string) tokencache.Verifier {
	if len(audiences) == 0 {
		audiences = []string{c.config.ClientID}
	}
	return &accessVerifier{client: c, audiences: slices.Clone(audiences)}
}

type accessVerifier struct {
	client    *Client
	audiences []string
}

// accessClaims are the claims of an access token that are used (RFC 9068 §2.2, and
// Entra ID's).
type accessClaims struct {
	Subject  string `json:"sub"`
	ObjectID string `json:"oid"`
	TenantID string `json:"tid"`
	Scope    string `json:"scope"`
	Scp      words  `json:"scp"`
	Roles    words  `json:"roles"`
	ClientID string `json:"client_id"`
	Party    string `json:"azp"`

	// What other tokens have.
	Events     *json.RawMessage `json:"events"`
	Nonce      *json.RawMessage `json:"nonce"`
	AccessHash *json.RawMessage `json:"at_hash"`
	CodeHash   *json.RawMessage `json:"c_hash"`
}

// words are a list of texts, or one text of words with spaces between them: servers
// differ.
type words []string

// UnmarshalJSON reads either form.
func (w *words) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*w = strings.Fields(text)
		return nil
	}
	return json.Unmarshal(b, (*[]string)(w))
}

// Verify implements [tokencache.Verifier].
func (v *accessVerifier) Verify(ctx context.Context, raw string) (tokencache.AssertionClaims, error) {
	switch {
	case len(raw) > maxAccessToken:
		return tokencache.AssertionClaims{}, badAccessToken("size")
	case !canonical(raw):
		return tokencache.AssertionClaims{}, badAccessToken("form")
	}
	c := v.client
	keys := c.keys.of("")
	token, err := oidc.NewVerifier(c.meta.Issuer, keys, &oidc.Config{
		SkipIssuerCheck:      true, // they are compared below, see verify
		SkipClientIDCheck:    true,
		SupportedSigningAlgs: c.meta.algorithms(),
	}).Verify(ctx, raw)
	if err != nil {
		return tokencache.AssertionClaims{}, insteadOfIDToken(keys.explain(ctx, err), badAccessToken)
	}
	var claims accessClaims
	if err := token.Claims(&claims); err != nil {
		return tokencache.AssertionClaims{}, badAccessToken("claims")
	}
	switch {
	case !c.meta.issued(token.Issuer, claims.TenantID, false):
		return tokencache.AssertionClaims{}, badAccessToken("issuer")
	case !slices.ContainsFunc(token.Audience, func(a string) bool { return slices.Contains(v.audiences, a) }):
		return tokencache.AssertionClaims{}, badAccessToken("audience")
	case !claims.isAccess(raw, c.meta.entra != nil):
		return tokencache.AssertionClaims{}, badAccessToken("type")
	case claims.Subject == "" || len(claims.Subject) > 255:
		return tokencache.AssertionClaims{}, badAccessToken("subject")
	}
	return tokencache.AssertionClaims{
		Account: claims.account(c.meta.entra != nil),
		Tenant:  claims.TenantID,
		Expires: token.Expiry,
		Scopes:  claims.scopes(),
	}, nil
}

// account is the home account ID, in the form of a sign-in's.
func (a *accessClaims) account(entra bool) string {
	home := homeAccount{UID: a.ObjectID, UTID: a.TenantID}
	switch {
	case entra && a.ObjectID != "" && validTenant(a.ObjectID) && validTenant(a.TenantID):
		return home.id()
	case a.Subject == a.ClientID || a.Subject == a.Party: // RFC 9068 §5
		return "client " + a.Subject
	}
	return a.Subject
}

func (a *accessClaims) scopes() []string {
	return union(strings.Fields(a.Scope), a.Scp)
}

// isAccess tells an access token from the server's other ones. They are all signed
// with the same keys.
func (a *accessClaims) isAccess(raw string, entra bool) bool {
	if a.Events != nil || a.Nonce != nil || a.AccessHash != nil || a.CodeHash != nil {
		return false
	}
	switch jwtType(raw) {
	case "at+jwt":
		return true
	case "", "jwt":
		return len(a.scopes()) > 0 || entra && len(a.Roles) > 0 && a.Party != ""
	}
	return false // logout+jwt and others
}

// canonical tells whether the text is a JWT in its only form. Others decode to the
// same, and each would be a token of its own for who keeps things by their text.
func canonical(raw string) bool {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 || strings.ContainsAny(raw, "\r\n") {
		return false
	}
	for _, part := range parts {
		if _, err := base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return false
		}
	}
	return true
}

// jwtType is the type (typ) of a JWT that has been verified, in lower case and
// without what may be left out of it (RFC 7515 §4.1.9).
func jwtType(raw string) string {
	var header struct {
		Type string `json:"typ"`
	}
	first, _, _ := strings.Cut(raw, ".")
	b, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil || json.Unmarshal(b, &header) != nil {
		return "unreadable"
	}
	return strings.TrimPrefix(strings.ToLower(header.Type), "application/")
}

// insteadOfIDToken says of another kind of token what explain says of an ID token.
func insteadOfIDToken(err error, bad func(check string) error) error {
	if check, ok := strings.CutPrefix(err.Error(), ErrIDToken.Error()+": "); ok && errors.Is(err, ErrIDToken) {
		return bad(check)
	}
	return err
}

func badAccessToken(check string) error { return fmt.Errorf("%w: %s", ErrAccessToken, check) }
