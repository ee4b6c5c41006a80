package idp

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// oauthError is an error response of RFC 6749 §5.2 or §4.1.2.1. Descriptions
// are fixed texts and never repeat what the client sent: that may be a secret,
// and may hold characters that the RFC forbids here.
type oauthError struct {
	status      int
	code        string
	description string
	aadsts      int // Entra ID's error number; 0 for none
	suberror    string
	claims      string
	challenge   string // WWW-Authenticate, if not empty
}

func badRequest(code, description string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: code, description: description}
}

func invalidGrant(aadsts int, description string) *oauthError {
	return &oauthError{status: http.StatusBadRequest, code: "invalid_grant", description: description, aadsts: aadsts}
}

// interactionRequired is Entra ID's answer when a policy wants the user in
// front of a browser. The client passes claims on in its next authorization
// request.
func interactionRequired(claims string) *oauthError {
	return &oauthError{
		status: http.StatusBadRequest, code: "interaction_required", aadsts: 50076,
		description: "the user must sign in again to meet a new requirement",
		suberror:    "basic_action", claims: claims,
	}
}

// consentRequired is the answer when the user has not allowed what a client asks
// for. On the tenant's issuer it is invalid_grant, see entraConsent.
func consentRequired() *oauthError {
	return &oauthError{
		status: http.StatusBadRequest, code: codeConsentRequired, aadsts: 65001,
		description: "the user has not consented to these scopes", suberror: codeConsentRequired,
	}
}

// codeConsentRequired is the error of OpenID Connect Core §3.1.2.6 at the plain
// issuer, and Entra ID's suberror.
const codeConsentRequired = "consent_required"

// entraConsent gives an error the code that Entra ID has for it: a refused consent
// looks like a refused refresh token there, but for its suberror.
func entraConsent(rm *realm, e *oauthError) *oauthError {
	if rm.entra && e.code == codeConsentRequired {
		e.code = "invalid_grant"
	}
	return e
}

// errorBody is the JSON of an error. The members after the first two are Entra
// ID's, sent where it has a number for the case.
type errorBody struct {
	Error         string `json:"error"`
	Description   string `json:"error_description,omitempty"`
	Codes         []int  `json:"error_codes,omitempty"`
	Timestamp     string `json:"timestamp,omitempty"`
	TraceID       string `json:"trace_id,omitempty"`
	CorrelationID string `json:"correlation_id,omitempty"`
	Suberror      string `json:"suberror,omitempty"`
	Claims        string `json:"claims,omitempty"`
}

func writeError(w http.ResponseWriter, r *http.Request, e *oauthError) {
	body := errorBody{Error: e.code, Description: e.description, Suberror: e.suberror, Claims: e.claims}
	if e.aadsts != 0 {
		body.Codes = []int{e.aadsts}
		body.Description = "AADSTS" + strconv.Itoa(e.aadsts) + ": " + e.description
		body.Timestamp = time.Now().UTC().Format("2006-01-02 15:04:05Z")
		body.TraceID = nameUUID("trace", rand.Text())
		body.CorrelationID = correlationID(r)
	}
	if e.challenge != "" {
		w.Header().Set("WWW-Authenticate", e.challenge)
	}
	writeJSON(w, e.status, body)
}

// correlationID repeats the ID that MSAL sends, so that a client's log and its
// errors can be matched, if it looks like one.
func correlationID(r *http.Request) string {
	id := r.Header.Get("client-request-id")
	if len(id) != 36 {
		return nameUUID("correlation", rand.Text())
	}
	for _, c := range id {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return nameUUID("correlation", rand.Text())
		}
	}
	return id
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // no type that comes here can fail
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client left; nobody to tell
}
