package idp

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
)

// authenticate accepts client_secret_basic, client_secret_post or
// private_key_jwt, and only one of them in a request (RFC 6749 §2.3). Public
// clients name themselves by client_id and show nothing.
func (s *Server) authenticate(r *http.Request, rm *realm) (*Client, *oauthError) {
	form := r.PostForm
	header := r.Header.Get("Authorization")
	asserted := form.Has("client_assertion") || form.Has("client_assertion_type")
	if (header != "" && form.Get("client_secret") != "") || (asserted && (header != "" || form.Get("client_secret") != "")) {
		return nil, badRequest("invalid_request", "the client authenticates in two ways at once")
	}
	switch {
	case asserted:
		return s.checkClientAssertion(form, rm)
	case header == "" && form.Get("client_secret") == "" && s.isPublic(form.Get("client_id")):
		return s.clients[form.Get("client_id")], nil
	case header == "":
		return s.checkSecret(form.Get("client_id"), form.Get("client_secret"), "")
	}
	const challenge = `Basic realm="token", charset="UTF-8"`
	id, secret, ok := r.BasicAuth()
	if !ok {
		return nil, invalidClient(challenge)
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
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 || !ok || client.Secret == "" {
		return nil, invalidClient(challenge)
	}
	return client, nil
}

func (s *Server) isPublic(id string) bool {
	client, ok := s.clients[id]
	return ok && client.Public
}

// needsSecret refuses a public client a grant in which the client itself is what
// the server trusts.
func (g *grant) needsSecret() *oauthError {
	if !g.client.Public {
		return nil
	}
	e := invalidClient("")
	e.aadsts, e.description = 7000218, "this grant is for clients that authenticate"
	return e
}

func invalidClient(challenge string) *oauthError {
	return &oauthError{
		status: http.StatusUnauthorized, code: "invalid_client", aadsts: 7000215,
		description: "the client is unknown or its secret is wrong", challenge: challenge,
	}
}
