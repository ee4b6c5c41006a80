package idp

import (
	"mime"
	"net/http"
)

// token is the token endpoint (RFC 6749 §3.2). counted has parsed the form.
func (s *Server) token(w http.ResponseWriter, r *http.Request, rm *realm) {
	who := s.authenticate
	if r.PostForm.Get("grant_type") == grantPassword {
		who = s.passwordClient
	}
	client, e := who(r, rm)
	if e != nil {
		writeError(w, r, e)
		return
	}
	g := &grant{realm: rm, client: client, form: r.PostForm, fault: faultKind(r.Context())}
	switch grantType(r.PostForm.Get("grant_type"), rm) {
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
	case grantDeviceCode:
		e = s.deviceCode(g)
	case grantPassword:
		e = s.password(g)
	case "":
		e = badRequest("invalid_request", "grant_type is missing")
	default:
		e = badRequest("unsupported_grant_type", "the grant type is not supported")
	}
	if e != nil {
		writeError(w, r, entraConsent(rm, e))
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

// grantType is the grant type without Entra ID's other name for one.
func grantType(name string, rm *realm) string {
	if rm.entra && name == grantDeviceCodeEntra {
		return grantDeviceCode
	}
	return name
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
