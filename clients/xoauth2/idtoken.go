package xoauth2

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// idClaims are the claims of a verified ID token that this package uses.
type idClaims struct {
	Subject  string `json:"sub"`
	Party    string `json:"azp"`
	ObjectID string `json:"oid"`
	TenantID string `json:"tid"`
	Username string `json:"preferred_username"`
	Name     string `json:"name"`
	SID      any    `json:"sid"` // text, where it means anything
	nonce    string
	session  string // see metadata.session
}

// verify checks an ID token as OpenID Connect Core §3.1.3.7 asks for, but for the
// nonce. An empty tenant is the one that is configured. The error is ErrIDToken,
// the context's, or a ServerError if the server's keys cannot be had.
//
// Issuer and audience are compared here rather than in go-oidc, whose errors
// repeat what the token says, and which knows one issuer only.
func (c *Client) verify(ctx context.Context, raw, tenant string) (*idClaims, error) {
	keys := c.keys.of(tenant)
	token, err := oidc.NewVerifier(c.meta.Issuer, keys, &oidc.Config{
		SkipIssuerCheck:      true,
		SkipClientIDCheck:    true,
		SupportedSigningAlgs: c.meta.algorithms(),
	}).Verify(ctx, raw)
	if err != nil {
		return nil, keys.explain(ctx, err)
	}
	id := idClaims{nonce: token.Nonce}
	if err := token.Claims(&id); err != nil {
		return nil, badIDToken("claims")
	}
	switch {
	case !c.meta.issued(token.Issuer, id.TenantID, tenant != ""):
		return nil, badIDToken("issuer")
	case !slices.Contains(token.Audience, c.config.ClientID):
		return nil, badIDToken("audience")
	case len(token.Audience) > 1 && id.Party != c.config.ClientID:
		return nil, badIDToken("authorized party")
	case id.Subject == "" || len(id.Subject) > 255:
		return nil, badIDToken("subject")
	}
	if sid, ok := id.SID.(string); ok {
		id.session = c.meta.session(token.Issuer, sid)
	}
	return &id, nil
}

// keySet verifies one token, and remembers why its signature was not verified. go-oidc
// flattens that to text, and keys that cannot be fetched say nothing about the token.
type keySet struct {
	document         *document
	meta             *metadata
	missing, refused error
	anothers         bool // the key is that of another issuer
}

func (k *keySet) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := k.document.VerifySignature(ctx, jwt)
	switch {
	case err == nil && k.meta.entra != nil: // elsewhere the member issuer of a key has no meaning
		var claims struct {
			Issuer string `json:"iss"`
		}
		if json.Unmarshal(payload, &claims) != nil || !k.document.allows(jwt, claims.Issuer, k.meta) {
			k.anothers = true
			return nil, errors.New("the key is that of another issuer")
		}
	case err == nil:
	case errors.Unwrap(err) != nil: // go-oidc wraps the errors of fetching only
		k.missing = err
	default:
		k.refused = err
	}
	return payload, err
}

// explain makes an error of go-oidc's.
func (k *keySet) explain(ctx context.Context, err error) error {
	var expired *oidc.TokenExpiredError
	switch {
	case ctx.Err() != nil:
		return unheard(ctx, err)
	case k.missing != nil:
		return malformed("the server's keys cannot be fetched")
	case k.refused != nil:
		return badIDToken("signature")
	case k.anothers:
		return badIDToken("issuer of the key")
	case errors.As(err, &expired):
		return badIDToken("expiry")
	}
	return badIDToken("form, algorithm or start of validity")
}

func (id *idClaims) checkNonce(want string) error {
	if want == "" || subtle.ConstantTimeCompare([]byte(id.nonce), []byte(want)) != 1 {
		return badIDToken("nonce")
	}
	return nil
}

// account is the user of an ID token, named by the home account ID if there is
// one.
func (id *idClaims) account(home homeAccount) tokencache.Account {
	a := tokencache.Account{
		ID:       home.id(),
		LocalID:  id.localID(),
		Tenant:   id.TenantID,
		Username: id.Username,
		Name:     id.Name,
	}
	if a.ID == "" {
		a.ID = id.Subject
	}
	return a
}

// localID is the user's ID in the token's tenant.
func (id *idClaims) localID() string { return cmp.Or(id.ObjectID, id.Subject) }

// homeAccount is Microsoft's client_info: the user's ID in their home
// directory. It is not signed, but comes from the token endpoint over TLS, like
// the access token.
type homeAccount struct {
	UID  string `json:"uid"`
	UTID string `json:"utid"`
}

// parseHomeAccount returns the zero value for a text that is not a client_info.
func parseHomeAccount(clientInfo string) homeAccount {
	var h homeAccount
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(clientInfo, "="))
	if err != nil || json.Unmarshal(b, &h) != nil {
		return homeAccount{}
	}
	// Without a dot in uid, no two pairs make the same account.
	if !validTenant(h.UTID) || !validTenant(strings.ReplaceAll(h.UID, "_", "-")) || strings.Contains(h.UID, ".") {
		return homeAccount{}
	}
	return h
}

// id is the home account ID, as MSAL makes it; empty for the zero value.
func (h homeAccount) id() string {
	if h == (homeAccount{}) {
		return ""
	}
	return h.UID + "." + h.UTID
}

// agrees tells whether client_info and ID token can be about one user. In the home
// tenant both hold the same object ID (Azure AD B2C appends a policy to it).
// In another tenant a guest has another, and there is nothing to compare.
func (h homeAccount) agrees(id *idClaims) bool {
	if h.UTID == "" || id.ObjectID == "" || !strings.EqualFold(h.UTID, id.TenantID) {
		return true
	}
	uid, oid := strings.ToLower(h.UID), strings.ToLower(id.ObjectID)
	return uid == oid || strings.HasPrefix(uid, oid+"-")
}
