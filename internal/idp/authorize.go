package idp

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// authorizeRequest is a valid authorization request (OpenID Connect Core
// §3.1.2.1, RFC 7636 §4.3).
type authorizeRequest struct {
	client      *Client
	redirectURI string
	state       string
	nonce       string
	challenge   string
	loginHint   string
	resource    string
	claims      bool // the request has a claims parameter
	askConsent  bool // prompt=consent
	scopes      []string
}

// authorizeForm answers a GET of the authorization endpoint with the login
// form, or signs in at once with AutoLogin.
func (s *Server) authorizeForm(w http.ResponseWriter, r *http.Request, rm *realm) {
	req, ok := s.authorizeRequest(w, r, rm)
	if !ok {
		return
	}
	hint, err := parseUser(req.loginHint)
	if s.opts.AutoLogin && err == nil {
		s.askConsent(w, r, req, rm, hint, "")
		return
	}
	s.pages.login(w, http.StatusOK, loginPage{Client: req.client.ID, Username: hint.name})
}

// authorizeSubmit takes the login form. Its URL still holds the whole request,
// which is checked again: there is no state between the two.
func (s *Server) authorizeSubmit(w http.ResponseWriter, r *http.Request, rm *realm) {
	req, ok := s.authorizeRequest(w, r, rm)
	if !ok {
		return
	}
	if e := checkForm(r); e != nil {
		s.pages.message(w, http.StatusBadRequest, "The form could not be read", e.description)
		return
	}
	u, err := parseUser(r.PostForm.Get("username"))
	if err != nil {
		s.pages.login(w, http.StatusBadRequest, loginPage{
			Client: req.client.ID, Error: "Enter a name of 1 to 64 printable characters.",
		})
		return
	}
	answer := r.PostForm.Get("consent")
	if answer != "" && http.NewCrossOriginProtection().Check(r) != nil {
		s.pages.message(w, http.StatusForbidden, "Invalid request", "This form is not from this server.")
		return
	}
	s.askConsent(w, r, req, rm, u, answer)
}

// askConsent signs the user in after asking for what the client may not do yet,
// or for all of it with prompt=consent. The answer is accept, deny, or "" if the
// user was not asked yet.
func (s *Server) askConsent(w http.ResponseWriter, r *http.Request, req *authorizeRequest, rm *realm, u user, answer string) {
	wanted := permissions(req.resource, req.scopes)
	asked := s.store.missing(u, req.client.ID, wanted)
	if req.askConsent && s.opts.Consent {
		asked = wanted
	}
	switch {
	case len(asked) == 0:
	case answer == "accept":
		s.store.consent(u, req.client.ID, asked)
	case answer == "deny":
		redirectTo(w, req.redirectURI, url.Values{
			"error": {"access_denied"}, "error_description": {"the user refused"}, "state": {req.state}, "iss": {rm.issuer},
		})
		return
	default:
		s.pages.consent(w, consentPage{Client: req.client.ID, Username: u.name, Permissions: asked})
		return
	}
	s.signIn(w, r, req, rm, u)
}

func (s *Server) signIn(w http.ResponseWriter, r *http.Request, req *authorizeRequest, rm *realm, u user) {
	value := s.store.issueCode(&code{
		issuer: rm.issuer, redirectURI: req.redirectURI, challenge: req.challenge,
		session: session{
			clientID: req.client.ID, user: u, scopes: req.scopes, resource: req.resource, nonce: req.nonce,
			sid: s.startLogin(w, r, u),
		},
	}, req.claims)
	// RFC 9207 §2: iss tells the client which server the answer is from.
	redirectTo(w, req.redirectURI, url.Values{"code": {value}, "state": {req.state}, "iss": {rm.issuer}})
}

// authorizeRequest checks a request, and answers it if it is not valid. Errors
// go back to the client only after its redirect URI has proved to be its own
// (RFC 6749 §4.1.2.1); before, redirecting would serve whoever wrote the link.
func (s *Server) authorizeRequest(w http.ResponseWriter, r *http.Request, rm *realm) (*authorizeRequest, bool) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(q["client_id"]) > 1 || len(q["redirect_uri"]) > 1 {
		s.pages.message(w, http.StatusBadRequest, "Invalid request", "The link to this page is malformed.")
		return nil, false
	}
	client, ok := s.clients[q.Get("client_id")]
	if !ok {
		s.pages.message(w, http.StatusBadRequest, "Unknown application", "No application is registered with this client_id.")
		return nil, false
	}
	uri := q.Get("redirect_uri")
	if uri == "" || !matchRedirect(client.RedirectURIs, uri) {
		s.pages.message(w, http.StatusBadRequest, "Invalid redirect URI", "The redirect_uri is not registered for this application.")
		return nil, false
	}
	req, e := parseAuthorize(q)
	if e != nil {
		answer := url.Values{"error": {e.code}, "error_description": {e.description}, "iss": {rm.issuer}}
		if state := q["state"]; len(state) == 1 && state[0] != "" && isVisible(state[0]) {
			answer.Set("state", state[0])
		}
		redirectTo(w, uri, answer)
		return nil, false
	}
	req.client, req.redirectURI = client, uri
	return req, true
}

// parseAuthorize checks everything but the client and its redirect URI.
func parseAuthorize(q url.Values) (*authorizeRequest, *oauthError) {
	for name, values := range q {
		if len(values) > 1 && name != "resource" {
			return nil, badRequest("invalid_request", "a parameter is repeated")
		}
	}
	if e := checkFlow(q); e != nil {
		return nil, e
	}
	scopes, e := parseScopes(q.Get("scope"))
	if e != nil {
		return nil, e
	}
	if !slices.Contains(scopes, "openid") {
		return nil, badRequest("invalid_scope", "scope must contain openid")
	}
	resource, e := parseResource(q)
	if e != nil {
		return nil, e
	}
	if q.Has("claims") && !isJSONObject(q.Get("claims")) {
		return nil, badRequest("invalid_request", "claims must be a JSON object")
	}
	if e := checkPrompt(q.Get("prompt")); e != nil {
		return nil, e
	}
	return &authorizeRequest{
		state: q.Get("state"), nonce: q.Get("nonce"), challenge: q.Get("code_challenge"),
		loginHint: q.Get("login_hint"), resource: resource, claims: demanding(q.Get("claims")), scopes: scopes,
		askConsent: slices.Contains(strings.Fields(q.Get("prompt")), "consent"),
	}, nil
}

// checkFlow checks that the request is for the code flow with PKCE. State and
// nonce are optional in the standards; here a client that forgot one finds out.
func checkFlow(q url.Values) *oauthError {
	mode := q.Get("response_mode")
	switch {
	case q.Has("request"):
		return badRequest("request_not_supported", "request objects are not supported")
	case q.Has("request_uri"):
		return badRequest("request_uri_not_supported", "request objects are not supported")
	case q.Get("response_type") == "":
		return badRequest("invalid_request", "response_type is missing")
	case q.Get("response_type") != "code":
		return badRequest("unsupported_response_type", "response_type must be code")
	case mode != "" && mode != "query":
		return badRequest("invalid_request", "response_mode must be query")
	case q.Get("state") == "" || !isVisible(q.Get("state")):
		return badRequest("invalid_request", "state must be 1 to 2048 printable ASCII characters")
	case q.Get("nonce") == "" || !isVisible(q.Get("nonce")):
		return badRequest("invalid_request", "nonce must be 1 to 2048 printable ASCII characters")
	case q.Get("code_challenge") == "":
		return badRequest("invalid_request", "code_challenge is missing")
	case q.Get("code_challenge_method") != "S256":
		return badRequest("invalid_request", "code_challenge_method must be S256")
	case !validChallenge(q.Get("code_challenge")):
		return badRequest("invalid_request", "code_challenge must be the base64url of a SHA-256")
	}
	return nil
}

// checkPrompt answers prompt=none. A browser's session signs nobody in, so nobody
// is ever signed in already. Of the other values, consent matters with
// [Options.Consent]; the rest ask for no more than what happens anyway.
func checkPrompt(prompt string) *oauthError {
	values := strings.Fields(prompt)
	switch {
	case !slices.Contains(values, "none"):
		return nil
	case len(values) > 1:
		return badRequest("invalid_request", "prompt has none together with another value")
	}
	return badRequest("login_required", "the user must sign in")
}

func isJSONObject(s string) bool {
	var v map[string]json.RawMessage
	return json.Unmarshal([]byte(s), &v) == nil && v != nil
}
