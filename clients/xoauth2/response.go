package xoauth2

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// tokenResponse is an answer of the token endpoint (RFC 6749 §5.1 and §5.2,
// OpenID Connect Core §3.1.3.3) with the members that Entra ID adds.
//
// golang.org/x/oauth2 is not used for it: it gives up at the first oddity, and
// with it would be lost a refresh token that replaces the one just spent.
type tokenResponse struct {
	AccessToken  string  `json:"access_token"`
	TokenType    string  `json:"token_type"`
	RefreshToken string  `json:"refresh_token"`
	IDToken      string  `json:"id_token"`
	Scope        string  `json:"scope"`
	ExpiresIn    seconds `json:"expires_in"`

	ClientInfo string  `json:"client_info"`
	RefreshIn  seconds `json:"refresh_in"`
	Family     string  `json:"foci"`

	Error    string `json:"error"`
	Suberror string `json:"suberror"`
	Claims   string `json:"claims"`
}

// seconds is a number, or a string with one, as some servers send it. What
// cannot be read is zero: absent.
type seconds float64

// UnmarshalJSON never fails, so that a strange lifetime does not cost the token.
func (s *seconds) UnmarshalJSON(b []byte) error {
	*s = 0
	const tenYears = 10 * 365 * 24 * 3600
	n, err := strconv.ParseFloat(strings.Trim(string(b), `"`), 64)
	if err == nil && !math.IsNaN(n) && n > 0 {
		*s = seconds(min(n, tenYears))
	}
	return nil
}

// after returns the time that many seconds after t, zero if they are absent.
func (s seconds) after(t time.Time) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return t.Add(s.duration())
}

func (s seconds) duration() time.Duration { return time.Duration(float64(s) * float64(time.Second)) }

// request asks the token endpoint. Along with an error it returns as much of the
// answer as can be trusted to be a token response: the caller may keep its
// refresh token. The error is the context's, a ServerError, an
// InteractionRequiredError or a ProtocolError.
func (c *Client) request(ctx context.Context, req *tokencache.Request, form url.Values) (tokencache.Grant, *tokenResponse, error) {
	endpoint, err := c.meta.tokenEndpoint(req.Tenant)
	if err != nil {
		return tokencache.Grant{}, nil, err
	}
	if c.cae && !req.CAE {
		own := *req
		own.CAE, req = true, &own
	}
	// An API may have written them, and Options.Exchange may take them for an object.
	if req.Claims != "" && !isJSONObject(req.Claims) {
		return tokencache.Grant{}, nil, errClaims
	}
	claims, err := withCapability(req.Claims, req.CAE)
	if err != nil {
		return tokencache.Grant{}, nil, err
	}
	for name, value := range map[string]string{"resource": req.Resource, "claims": claims} {
		if value != "" {
			form.Set(name, value)
		}
	}
	if c.meta.entra != nil {
		form.Set("client_info", "1") // names the home account; see homeAccount
	}
	began := time.Now() // lifetimes count from before the request, to be on the safe side
	a, err := c.postToken(ctx, endpoint, req, form)
	if err != nil {
		return tokencache.Grant{}, nil, err
	}
	var r tokenResponse
	bad := json.Unmarshal(a.body, &r) // decodes the members that fit, even if one does not
	if !a.ok() || r.Error != "" {
		return tokencache.Grant{}, nil, a.failure(&r, req)
	}
	g := r.grant(began, req.Scopes)
	g.CAE = req.CAE
	switch {
	case bad != nil:
		return g, &r, malformed("the token response is not what RFC 6749 describes")
	case g.AccessToken == "":
		return g, &r, malformed("the token response has no access token")
	case g.TokenType != "" && g.TokenType != "Bearer":
		return g, &r, malformed("the token response has a type of token that this client cannot use") // RFC 6749 §7.1
	}
	return g, &r, nil
}

// grant is the response without what has to be verified first.
func (r *tokenResponse) grant(began time.Time, requested []string) tokencache.Grant {
	g := tokencache.Grant{
		AccessToken:  tokencache.Secret(r.AccessToken),
		TokenType:    r.TokenType,
		Expires:      r.ExpiresIn.after(began),
		RefreshOn:    r.RefreshIn.after(began),
		RefreshToken: tokencache.Secret(r.RefreshToken),
	}
	if r.Family == "1" { // the only one there is
		g.Family = r.Family
	}
	if strings.EqualFold(r.TokenType, "bearer") {
		g.TokenType = "Bearer" // servers differ in case, and some APIs mind
	}
	if scopes := strings.Fields(r.Scope); len(scopes) > 0 {
		g.Scopes = withImplied(scopes, requested)
	}
	return g
}

// withImplied adds the requested scopes that stand for others: Entra ID answers
// api://name/.default with all scopes of that API which were consented to.
func withImplied(granted, requested []string) []string {
	for _, s := range requested {
		if strings.HasSuffix(s, "/.default") && !slices.Contains(granted, s) {
			granted = append(granted, s)
		}
	}
	return granted
}

// failure sorts an answer that brings no tokens.
func (a *answer) failure(r *tokenResponse, req *tokencache.Request) error {
	switch {
	case a.status == http.StatusTooManyRequests || a.status >= 500 || a.status/100 == 3 || r.Error == "":
		return a.unavailable("token endpoint")
	case r.Error == "invalid_grant" && (r.Claims != "" || slices.Contains(interactive, r.Suberror)):
		// Entra ID calls it so when a policy or a consent is missing. The
		// refresh token is good: it must not be given up.
		code := "interaction_required"
		if isInteraction(r.Suberror) {
			code = r.Suberror
		}
		return oauthError(code, req.Scopes, claimsFor(r, req))
	}
	return oauthError(r.Error, req.Scopes, claimsFor(r, req))
}

// interactive are the suberrors of Entra ID that the user can resolve.
var interactive = []string{
	"basic_action", "additional_action", "message_only", "consent_required", "user_password_expired",
}

// claimsFor returns the claims that a sign-in must carry: what the server asks
// for, else what the API's challenge asked for.
func claimsFor(r *tokenResponse, req *tokencache.Request) string {
	if isJSONObject(r.Claims) {
		return r.Claims
	}
	return req.Claims
}

func isJSONObject(s string) bool {
	var v map[string]json.RawMessage
	return json.Unmarshal([]byte(s), &v) == nil && v != nil
}
