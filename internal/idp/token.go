package idp

import (
	"crypto/sha256"
	"crypto/subtle"
	"mime"
	"net/http"
	"net/url"
)

// token is the token endpoint (RFC 6749 §3.2). counted has parsed the form.
func (s *Server) token(w http.ResponseWriter, r *http.Request, rm *realm) {
	client, e := s.authenticate(r)
	if e != nil {
		writeError(w, r, e)
		return
	}
	g := &grant{realm: rm, client: client, form: r.PostForm, fault: faultKind(r.Context())}
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		e = s.redeemCode(g)
	case "refresh_token":
		e = s.refresh(g)
	case "client_credentials":
		e = s.clientCredentials(g)
	case grantOnBehalfOf:
		e = s.onBehalfOf(g)
	case grantTokenExchange:
		e = s.tokenExchange(g)
	case "":
		e = badRequest("invalid_request", "grant_type is missing")
	default:
		e = badRequest("unsupported_grant_type", "the grant type is not supported")
	}
	if e != nil {
		writeError(w, r, e)
		return
	}
	response, err := s.issue(g)
	if err != nil { // RSA signing failed: nothing that a client could cause
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	if g.session != nil {
		s.store.useLogin(g.session.sid, party{issuer: rm.issuer, clientID: client.ID}, response.IDToken != "")
	}
	writeJSON(w, http.StatusOK, response)
}

// counted counts token requests before a fault or a check can answer them. A
// form that is malformed is refused here, and uses up no fault.
func (s *Server) counted(next realmHandler) realmHandler {
	return func(w http.ResponseWriter, r *http.Request, rm *realm) {
		e := checkForm(r)
		s.store.countRequest(r.PostForm)
		if e != nil {
			writeError(w, r, e)
			return
		}
		next(w, r, rm)
	}
}

// checkForm parses the form and holds it to what RFC 6749 §3.2 asks for: nothing
// but resource (RFC 8707 §2) comes twice. It is to be called once per request,
// since the second call of ParseForm hides the error of the first.
func checkForm(r *http.Request) *oauthError {
	typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || typ != "application/x-www-form-urlencoded" {
		return badRequest("invalid_request", "the body must be application/x-www-form-urlencoded")
	}
	if err := r.ParseForm(); err != nil {
		return badRequest("invalid_request", "the body is not a well-formed form")
	}
	for name, values := range r.PostForm {
		if len(values) > 1 && name != "resource" {
			return badRequest("invalid_request", "a parameter is repeated")
		}
	}
	return nil
}

// authenticate accepts client_secret_basic or client_secret_post, not both in
// one request (RFC 6749 §2.3).
func (s *Server) authenticate(r *http.Request) (*Client, *oauthError) {
	form := r.PostForm
	header := r.Header.Get("Authorization")
	if header == "" {
		return s.checkSecret(form.Get("client_id"), form.Get("client_secret"), "")
	}
	const challenge = `Basic realm="token", charset="UTF-8"`
	id, secret, ok := r.BasicAuth()
	if !ok {
		return nil, invalidClient(challenge)
	}
	if form.Get("client_secret") != "" {
		return nil, badRequest("invalid_request", "the client authenticates in two ways at once")
	}
	// RFC 6749 §2.3.1: both parts are form-encoded before they are joined.
	id, err1 := url.QueryUnescape(id)
	secret, err2 := url.QueryUnescape(secret)
	if err1 != nil || err2 != nil || (form.Get("client_id") != "" && form.Get("client_id") != id) {
		return nil, invalidClient(challenge)
	}
	return s.checkSecret(id, secret, challenge)
}

// checkSecret compares hashes, so that the time it takes depends on the length
// of neither secret, and does so for unknown clients too.
func (s *Server) checkSecret(id, secret, challenge string) (*Client, *oauthError) {
	client, ok := s.clients[id]
	if !ok {
		client = &Client{}
	}
	want, got := sha256.Sum256([]byte(client.Secret)), sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 || !ok {
		return nil, invalidClient(challenge)
	}
	return client, nil
}

func invalidClient(challenge string) *oauthError {
	return &oauthError{
		status: http.StatusUnauthorized, code: "invalid_client", aadsts: 7000215,
		description: "the client is unknown or its secret is wrong", challenge: challenge,
	}
}
